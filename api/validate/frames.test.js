// The schemas take what the code makes, all of it and nothing else.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { golden, vectors } from "./load.js";
import { descriptions } from "./schemas.js";

/** A frame, its schema by its type, and who has that schema. */
function* described(frame) {
  for (const [name, d] of Object.entries(descriptions)) {
    const schema = d.ofType(frame.type);
    if (schema) yield { name, schema, d };
  }
}

describe("golden frames", () => {
  for (const [name, line] of golden) {
    test(name, () => {
      const frame = JSON.parse(line);
      assert.ok(descriptions.asyncapi.ofType(frame.type), `no schema is a ${frame.type}`);
      for (const { schema, d } of described(frame)) {
        assert.deepEqual(d.faults(schema, frame), []);
        const { properties, required } = d.schemas[schema];
        assert.deepEqual(Object.keys(frame).filter((member) => !(member in properties)), [], "members that no schema knows");
        for (const member of required) {
          const { [member]: _, ...rest } = frame;
          assert.notDeepEqual(d.faults(schema, rest), [], `without ${member}`);
        }
        for (const member of Object.keys(frame).filter((m) => m !== "data")) {
          assert.notDeepEqual(d.faults(schema, { ...frame, [member]: [[0]] }), [], `${member} is anything`);
        }
      }
    });
  }
});

describe("vectors", () => {
  test("frames", () => {
    for (const { name, fields, ignored } of vectors.frames.cases) {
      const schemas = [...described(fields)];
      assert.equal(schemas.length === 0, ignored === true, name);
      for (const { schema, d } of schemas) assert.deepEqual(d.faults(schema, fields), [], name);
    }
  });

  test("control messages, good and bad", () => {
    const { ofType, faults } = descriptions.asyncapi;
    for (const { name, text, fields, error } of vectors.control.cases) {
      if (fields) {
        assert.deepEqual(faults(ofType(fields.type), JSON.parse(text)), [], name);
        continue;
      }
      assert.deepEqual(faults("Error", error), [], name);
      let message;
      try { message = JSON.parse(text); } catch { continue; }
      const schema = ofType(message.type);
      assert.ok(!schema || faults(schema, message).length > 0, name);
    }
  });

  test("event streams", () => {
    const { ofType, faults } = descriptions.openapi;
    for (const { name, events } of vectors.sse.cases.filter((v) => v.gateway)) {
      for (const { event, data } of events) {
        const schema = { message: "Event", close: "Ended" }[event] ?? ofType(event);
        assert.deepEqual(faults(schema, JSON.parse(data)), [], name);
      }
    }
  });

  test("answers to polls", () => {
    const { faults } = descriptions.openapi;
    for (const { name, body } of vectors.polling.cases) {
      const polled = JSON.parse(body);
      assert.deepEqual(faults("Polled", polled), [], name);
      for (const member of Object.keys(polled)) {
        assert.notDeepEqual(faults("Polled", { ...polled, [member]: 1 }), [], `${name}: ${member} is a number`);
      }
    }
  });
});
