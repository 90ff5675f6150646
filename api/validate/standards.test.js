// Both descriptions are what they say they are.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Parser } from "@asyncapi/parser";
import { Validator } from "@seriousme/openapi-schema-validator";
import { asyncapi, openapi, text } from "./load.js";
import { descriptions } from "./schemas.js";

const warning = 1; // of Spectral: 0 is an error, 2 and 3 are remarks

test("asyncapi.yaml is AsyncAPI 3.0", async () => {
  assert.equal(asyncapi.asyncapi, "3.0.0");
  const { document, diagnostics } = await new Parser().parse(text.asyncapi);
  assert.deepEqual(diagnostics.filter((d) => d.severity <= warning).map((d) => `${d.path.join(".")}: ${d.message}`), []);
  assert.ok(document);
});

test("openapi.yaml is OpenAPI 3.1", async () => {
  assert.equal(openapi.openapi, "3.1.0");
  const validator = new Validator();
  const { valid, errors } = await validator.validate(openapi);
  assert.ok(valid, JSON.stringify(errors));
  assert.equal(validator.version, "3.1");
});

// A validator that takes anything would prove nothing.
test("a broken description is found", async () => {
  const { document } = await new Parser().parse(text.asyncapi.replace("action: send", "action: shout"));
  assert.equal(document, undefined);
  for (const [right, wrong] of [["in: query", "in: wherever"], ["schemas/Polled", "schemas/Pulled"]]) {
    const { valid } = await new Validator().validate(text.openapi.replace(right, wrong));
    assert.equal(valid, false, wrong);
  }
});

test("every schema compiles, and both descriptions mean the same by a name", () => {
  for (const { names, faults } of Object.values(descriptions)) {
    for (const name of names) faults(name, {});
  }
  const shared = descriptions.openapi.names.filter((name) => name in descriptions.asyncapi.schemas);
  assert.ok(shared.includes("Event") && shared.includes("Welcome"));
  for (const name of shared) {
    assert.deepEqual(descriptions.openapi.schemas[name], descriptions.asyncapi.schemas[name], name);
  }
});
