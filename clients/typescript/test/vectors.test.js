// The language-neutral vectors of api/testdata/vectors: through the whole
// client, with a scripted socket or a scripted fetch beneath it, where they are
// about what it does; its parts alone where they are about a function.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { build } from "esbuild";
import { Pushgate } from "../dist/index.js";
import { until } from "./gateway.js";
import { Record } from "./record.js";

function vectors(name) {
  const file = JSON.parse(readFileSync(new URL(`../../../api/testdata/vectors/${name}.json`, import.meta.url), "utf8"));
  assert.ok(file.cases.length > 0);
  return file;
}

/** A module of src by itself. */
async function source(name) {
  const { outputFiles } = await build({ entryPoints: [`src/${name}.ts`], bundle: true, format: "esm", write: false });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
}

/** A WebSocket whose other side is the test. */
class Script {
  static all = [];
  constructor(url) {
    this.url = url;
    Script.all.push(this);
  }
  send() {}
  close() {}
  say(text) {
    this.onmessage({ data: text });
  }
}

const welcome = { type: "welcome", session: "AAAAAAAAAAAAAAAAAAAAAA", user: "alice", subjects: ["user.alice"], expires: "2126-01-02T03:04:05Z", heartbeat: 60 };

/** A client in the middle of a session. */
async function inSession(t, options = {}) {
  const sockets = Script.all.length;
  const gate = new Pushgate("http://gateway.example", { token: "t", WebSocket: Script, fetch: () => Promise.reject(new Error("away")), ...options });
  t.after(() => gate.close());
  const record = new Record(gate);
  const socket = await until(() => Script.all[sockets], "a socket");
  return { gate, record, socket };
}

describe("frames", () => {
  for (const { name, text, fields, bytes_hex, ignored } of vectors("frames").cases) {
    test(name, async (t) => {
      const { gate, record, socket } = await inSession(t);
      if (fields.type !== "welcome") socket.say(JSON.stringify(welcome));
      const before = gate.cursor;
      socket.say(text);
      const type = { welcome: "open" }[fields.type] ?? fields.type;
      if (ignored) {
        assert.deepEqual([record.all(type), gate.cursor], [[], before]);
        return;
      }
      const [detail] = record.all(type);
      if (type === "error") assert.deepEqual([detail.code, detail.message], [fields.code, fields.message]);
      else for (const member of Object.keys(fields)) assert.deepEqual(detail[member], fields[member], member);
      if (bytes_hex !== undefined) assert.equal(Buffer.from(detail.data_base64, "base64").toString("hex"), bytes_hex);
    });
  }
});

for (const spoiled of ['{"type":"event","sub', "null"]) {
  test(`behind a frame that cannot be read, nothing counts: ${spoiled}`, async (t) => {
    const { gate, record, socket } = await inSession(t, { cursor: "e1.1" });
    socket.say(JSON.stringify(welcome));
    socket.say(spoiled);
    socket.onmessage?.({ data: '{"type":"event","subject":"user.alice","cursor":"e1.3","time":"2026-01-02T03:04:05.678Z","data":3}' });
    const close = await record.nth("close");
    assert.deepEqual([close.code, close.reason, gate.cursor, record.data], [1006, "unusable", "e1.1", []]);
  });
}

describe("cursors", () => {
  for (const { name, start, steps } of vectors("cursors").cases) {
    test(name, async (t) => {
      const { gate, record, socket } = await inSession(t, { cursor: start });
      if (steps[0].frame.type !== "welcome") socket.say(JSON.stringify(welcome));
      for (const { frame, deliver, cursor } of steps) {
        const before = record.all("event").length;
        socket.say(JSON.stringify(frame));
        assert.equal(gate.cursor, cursor, JSON.stringify(frame));
        if (deliver !== undefined) assert.equal(record.all("event").length - before, +deliver, JSON.stringify(frame));
      }
    });
  }
});

describe("closes", () => {
  for (const { code, gateway, action } of vectors("closes").cases) {
    test(`${code}: ${action}`, async (t) => {
      let asked = 0;
      const { gate, record, socket } = await inSession(t, { token: () => `t${++asked}` });
      socket.say(JSON.stringify(welcome));
      const sockets = Script.all.length;
      socket.onclose({ code, reason: gateway?.[0].text ?? "" });
      const close = await record.nth("close");
      assert.equal(close.code, code);
      if (action === "stop") {
        assert.deepEqual([gate.state, close.retry], ["closed", undefined]);
        return;
      }
      await until(() => Script.all[sockets], "the next attempt");
      assert.equal(asked, action === "new_token" ? 2 : 1);
      if (action === "new_token") assert.equal(close.retry, 0);
    });
  }
});

test("delays", async () => {
  const { delay } = await source("decide");
  for (const { name, attempt, reconnect_after_ms, retry_after_s, min_ms, max_ms } of vectors("delays").cases) {
    const all = Array.from({ length: 1000 }, () => delay(attempt, reconnect_after_ms, +retry_after_s));
    assert.ok(all.every((ms) => ms >= min_ms && ms <= max_ms), name);
    // Spread over all that is allowed.
    assert.ok(Math.max(...all) - Math.min(...all) >= 0.9 * (max_ms - min_ms), name);
  }
});

test("a delay that no timer takes", async () => {
  const { delay } = await source("decide");
  for (const ms of [delay(0, 1e10), delay(0, undefined, 1e7)]) assert.ok(ms > 1e9 && ms < 2 ** 31, `${ms}`);
});

describe("refusals", () => {
  const { cases, others } = vectors("refusals");
  for (const { name, status, error, headers, body, action } of [...cases, ...others]) {
    test(`${name}: ${action}`, async (t) => {
      let asked = 0;
      const { gate, record, socket } = await inSession(t, {
        token: () => `t${++asked}`,
        fetch: async () => new Response(body, { status, headers }),
      });
      const sockets = Script.all.length;
      socket.onclose({ code: 1006, reason: "" });
      const close = await record.nth("close");
      if (action === "fall_back" || error === undefined) assert.ok(close.code);
      else assert.deepEqual([close.code, close.reason], [error, JSON.parse(body).message]);
      if (action === "stop") return assert.equal(gate.state, "closed");
      const wait = +(headers["Retry-After"] ?? 0) * 1000;
      assert.ok(close.retry >= wait, `${close.retry} ms`);
      if (wait) return;
      await until(() => asked === 2 || gate.transport !== "websocket" || Script.all[sockets], "the next step");
      assert.equal(gate.transport !== "websocket", action === "fall_back");
      if (action === "new_token") await until(() => asked === 2, "a new token");
      else assert.equal(asked, 1);
    });
  }
});

describe("event streams", async () => {
  const { parser } = await source("sse");
  for (const { name, stream, events, last_event_id } of vectors("sse").cases) {
    test(name, () => {
      const bytes = Buffer.from(stream);
      // In two pieces, cut at each place, and byte by byte.
      for (let cut = -1; cut <= bytes.length; cut++) {
        const got = [];
        let last = "";
        const feed = parser((event, data, id) => {
          last = id;
          if (data) got.push({ event: event || "message", data, last_event_id: id });
        });
        const decoder = new TextDecoder();
        const pieces = cut < 0 ? [...bytes].map((byte) => Uint8Array.of(byte)) : [bytes.subarray(0, cut), bytes.subarray(cut)];
        for (const piece of pieces) feed(decoder.decode(piece, { stream: true }));
        assert.deepEqual([got, last], [events, last_event_id], `cut at ${cut}`);
      }
    });
  }
});

describe("polls", () => {
  for (const { name, cursor_before, body, delivered, reload, next, cursor } of vectors("polling").cases) {
    test(name, async (t) => {
      const asked = [];
      const gate = new Pushgate("http://gateway.example", {
        token: "t",
        transports: ["poll"],
        cursor: cursor_before,
        fetch: (url, { signal }) => {
          asked.push(new URL(url).searchParams);
          if (asked.length === 1) return Promise.resolve(new Response(body));
          return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
        },
      });
      t.after(() => gate.close());
      const record = new Record(gate);
      await until(() => asked.length === 2, "the next poll");
      assert.equal(record.all("event").length, delivered);
      assert.equal(record.all("incomplete").length, +reload);
      assert.equal(gate.cursor, cursor);
      assert.equal(asked[0].get("cursor"), cursor_before || null);
      assert.equal(asked[1].get("cursor"), cursor);
      // Where there is more, the gateway does not let it wait.
      assert.ok(["wait", "at_once"].includes(next));
    });
  }
});
