// What the checks look at: the two descriptions, the golden frames, the vectors.

import { readdirSync, readFileSync } from "node:fs";
import { parse } from "yaml";

const read = (path) => readFileSync(new URL(`../${path}`, import.meta.url), "utf8");

export const text = { asyncapi: read("asyncapi.yaml"), openapi: read("openapi.yaml") };
export const asyncapi = parse(text.asyncapi);
export const openapi = parse(text.openapi);

/** The golden frames by name, each the line that clients get. */
export const golden = new Map(read("testdata/frames.golden").split("\n").filter(Boolean).map((line) => {
  const end = line.indexOf(": {");
  return [line.slice(0, end), line.slice(end + 2)];
}));

/** The vectors, by file. */
export const vectors = Object.fromEntries(readdirSync(new URL("../testdata/vectors", import.meta.url))
  .filter((file) => file.endsWith(".json"))
  .map((file) => [file.slice(0, -".json".length), JSON.parse(read(`testdata/vectors/${file}`))]));

/** What a reference within one of the descriptions leads to, and what has none. */
export function follow(document, node) {
  while (node.$ref !== undefined) {
    node = node.$ref.slice("#/".length).split("/")
      .reduce((at, key) => at[key.replaceAll("~1", "/").replaceAll("~0", "~")], document);
  }
  return node;
}
