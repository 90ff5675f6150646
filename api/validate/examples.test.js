// Examples are what the code makes; endings and refusals are all there.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { asyncapi, follow, golden, openapi, vectors } from "./load.js";
import { descriptions } from "./schemas.js";

/** What an example of that name must be. */
function genuine(name) {
  const found = new Set();
  if (golden.has(name)) found.add(golden.get(name));
  for (const { cases } of Object.values(vectors)) {
    const { text, body } = cases.find((c) => c.name === name) ?? {};
    if (text ?? body) found.add((text ?? body).trimEnd());
  }
  assert.equal(found.size, 1, `${found.size} texts are called ${name}`);
  return JSON.parse([...found][0]);
}

describe("AsyncAPI", () => {
  const messages = Object.entries(asyncapi.components.messages);

  test("examples", () => {
    for (const [, { payload, examples = [] }] of messages) {
      const schema = payload.$ref?.split("/").at(-1);
      for (const { name, payload } of examples) {
        assert.deepEqual(payload, genuine(name), name);
        assert.deepEqual(descriptions.asyncapi.faults(schema, payload), [], name);
      }
    }
  });

  test("every frame of a session has one", () => {
    for (const ref of Object.values(asyncapi.channels.session.messages)) {
      assert.ok(follow(asyncapi, ref).examples?.length > 0, ref.$ref);
    }
  });

  test("everything that gateways tell backends is one", () => {
    const shown = messages.flatMap(([, { examples = [] }]) => examples.map((e) => e.name));
    assert.deepEqual(vectors.nats.cases.map((c) => c.name).filter((name) => !shown.includes(name)), []);
  });

  test("close codes", () => {
    const want = vectors.closes.cases.flatMap(({ code, gateway = [], action }) =>
      gateway.map(({ label, text }) => ({ code, label, text, action })));
    assert.deepEqual(asyncapi.channels.session["x-close-codes"], want);
  });
});

describe("OpenAPI", () => {
  const operations = Object.values(openapi.paths).flatMap((path) => [path.get, path.options]);
  const answers = operations.flatMap(({ responses }) => Object.entries(responses)
    .map(([status, response]) => ({ status: Number(status), ...follow(openapi, response) })));

  test("examples", () => {
    let seen = 0;
    for (const { content = {} } of answers) {
      for (const [type, { schema, examples }] of Object.entries(content)) {
        const valid = descriptions.openapi.compile(schema);
        for (const [name, { value }] of Object.entries(examples)) {
          const want = type === "text/event-stream" ? vectors.sse.cases.find((v) => v.name === name)?.stream : genuine(name);
          assert.deepEqual(value, want, name);
          assert.ok(valid(value), `${name}: ${JSON.stringify(valid.errors)}`);
          seen++;
        }
      }
    }
    assert.ok(seen > 0);
  });

  test("refusals, with body and headers", () => {
    for (const { name, status, body, headers } of vectors.refusals.cases) {
      const at = answers.filter((a) => a.status === status && name in a.content["application/json"].examples);
      assert.ok(at.length > 0, `${name} is at no operation`);
      for (const { content, headers: declared } of at) {
        assert.deepEqual(content["application/json"].examples[name].value, JSON.parse(body), name);
        const { "Content-Type": type, ...sent } = headers;
        assert.ok(type in content);
        for (const [header, value] of Object.entries(sent)) {
          assert.ok(header in declared, `${name}: ${header} is not described`);
          const valid = descriptions.openapi.compile(follow(openapi, declared[header]).schema);
          assert.ok(valid(value), `${name}: ${header} is ${value}`);
        }
        for (const [header, how] of Object.entries(declared)) {
          assert.ok(header in sent || !follow(openapi, how).required, `${name} has no ${header}`);
        }
      }
    }
    const known = new Set(vectors.refusals.cases.map((v) => v.name));
    for (const { status, content } of answers.filter((a) => a.status >= 400)) {
      for (const name of Object.keys(content["application/json"].examples)) {
        assert.ok(known.has(name), `${status} ${name} is no refusal of the code's`);
      }
    }
  });
});
