// Validators of the schemas in both descriptions.

import { Ajv } from "ajv";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { asyncapi, openapi } from "./load.js";

const base = "https://pushgate.example/api"; // any name will do: nothing is fetched
const options = { allErrors: true, strictTypes: false, allowMatchingProperties: true };

/** Schemas of AsyncAPI 3.0 are draft 7, those of OpenAPI 3.1 are 2020-12. */
export const descriptions = {
  asyncapi: describe(new Ajv(options), asyncapi),
  openapi: describe(new Ajv2020(options), openapi),
};

function describe(ajv, { components: { schemas } }) {
  addFormats.default(ajv);
  ajv.addVocabulary(["components"]);
  ajv.addSchema({ $id: base, components: { schemas } });
  const compiled = new Map();
  const validator = (name) => {
    if (!compiled.has(name)) compiled.set(name, ajv.compile({ $ref: `${base}#/components/schemas/${name}` }));
    return compiled.get(name);
  };
  const names = Object.keys(schemas);
  return {
    schemas,
    names,
    /** The name of the schema of a frame's type. */
    ofType: (type) => names.find((name) => schemas[name].properties?.type?.const === type),
    /** What is wrong with a value by a schema; empty when nothing is. */
    faults: (name, value) => (validator(name)(value) ? [] : validator(name).errors.map((e) => `${e.instancePath} ${e.message}`)),
    /** Compiles a schema that stands elsewhere in the document. */
    compile: (schema) => ajv.compile(JSON.parse(JSON.stringify(schema).replaceAll('"#/', `"${base}#/`))),
  };
}
