// What the contract promises, seen by a WebSocket library that shares no code
// with the gateway.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { carriers, Gateway } from "./gateway.js";

let gateway;
before(async () => { gateway = await Gateway.start(); });
after(async () => { await gateway?.stop(); });

/** The session still answers, and nothing was waiting in front of the answer. */
async function alive(client, ref) {
  client.send({ type: "ping", ref });
  const pong = await client.next();
  assert.deepEqual([pong.type, pong.ref], ["pong", ref]);
}

describe("handshake", () => {
  for (const [name, carry] of Object.entries(carriers)) {
    test(`a token in the ${name}`, async () => {
      const token = await gateway.token("alice");
      const { first, ws, answer } = await gateway.open(carry(token));
      assert.equal(first.type, "welcome");
      assert.match(first.session, /^[\w-]{22}$/);
      assert.equal(first.user, "alice");
      assert.deepEqual(first.subjects.toSorted(), ["broadcast", "user.alice"]);
      assert.match(first.expires, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
      const lasts = (Date.parse(first.expires) - Date.now()) / 1000;
      assert.ok(lasts > 3500 && lasts <= 3600, `it expires in ${lasts} s`);
      assert.equal(first.heartbeat, 60);
      assert.equal(ws.protocol, name === "subprotocol" ? "pushgate.v1" : "");
      assert.ok(!answer.rawHeaders.join().includes(token), "the token is echoed");
      ws.close();
    });
  }

  function assertRefusal({ status, headers, body }, wantStatus, wantError) {
    assert.equal(status, wantStatus);
    assert.match(headers["content-type"], /^application\/json/);
    assert.equal(body.error, wantError);
    assert.ok(body.message.length > 0, "there is no message");
  }

  test("no token", async () => {
    const refusal = await gateway.refused({ protocols: ["pushgate.v1"] });
    assertRefusal(refusal, 401, "unauthorized");
    assert.equal(refusal.headers["www-authenticate"], "Bearer");
  });

  test("a token that is not good", async () => {
    const forged = await gateway.token("alice", { GATEWAY_AUTH_HS256_SECRET: "x".repeat(32) });
    for (const token of [forged, "garbage"]) {
      for (const carry of Object.values(carriers)) {
        const refusal = await gateway.refused(carry(token));
        assertRefusal(refusal, 401, "unauthorized");
        assert.match(refusal.headers["www-authenticate"], /^Bearer\b.*\berror="invalid_token"/);
        assert.ok(!JSON.stringify(refusal).includes(token), "the token is echoed");
      }
    }
  });

  test("two tokens", async () => {
    const token = await gateway.token("alice");
    const { header, subprotocol, query } = carriers;
    for (const [one, other] of [[header, query], [header, subprotocol], [subprotocol, query]]) {
      assertRefusal(await gateway.refused({ ...one(token), ...other(token) }), 400, "malformed");
    }
  });

  test("bearer. without pushgate.v1", async () => {
    const protocols = [`bearer.${await gateway.token("alice")}`];
    assertRefusal(await gateway.refused({ protocols }), 400, "malformed");
  });

  test("origins", async () => {
    const { protocols } = carriers.subprotocol(await gateway.token("alice"));
    const foreign = { protocols, headers: { Origin: "http://evil.example" } };
    assertRefusal(await gateway.refused(foreign), 403, "origin");
    const own = { protocols, headers: { Origin: `http://${gateway.host}` } };
    const { first, ws } = await gateway.open(own);
    assert.equal(first.type, "welcome");
    ws.close();
  });
});

describe("events", () => {
  const noUTF8 = Buffer.from([0x22, 0xff, 0x22]); // JSON but for that
  const everyByte = Buffer.from(Uint8Array.from({ length: 256 }, (_, i) => i));
  const long = "ä".repeat(30_000); // needs a longer frame header
  const json = '{"n": 1.0, "big":12345678901234567890,"s":"a\\u00e4 ä\u2028"}';
  const typed = (type) => ["--header", `Content-Type:${type}`];

  // How an event's payload stands in its frame, to the byte.
  for (const [name, data, field, ...flags] of [
    ["JSON", json, `"data":${json}`],
    ["JSON on several lines", '{\n  "a":\r\n  1\n}\n', '"data":{  "a":  1}'],
    ["a JSON string", '"x"', '"data":"x"'],
    ["text", 'plain "text"\n\tä €', '"data":"plain \\"text\\"\\n\\tä €"'],
    ["long text", long, `"data":"${long}"`],
    ["an empty payload", "", '"data":""'],
    ["every byte", everyByte, `"data_base64":"${everyByte.toString("base64")}"`],
    ["JSON that is not UTF-8", noUTF8, `"data_base64":"${noUTF8.toString("base64")}"`],
    ["JSON as text", "{}", '"data":"{}"', ...typed("text/plain")],
    ["JSON as bytes", "{}", '"data_base64":"e30="', ...typed("application/octet-stream")],
  ]) {
    test(name, async () => {
      const alice = await gateway.connect("alice");
      await gateway.publish("push.user.alice", data, ...flags);
      const raw = await alice.raw();
      assert.ok(raw.includes(`,${field}`), `the frame is ${raw.slice(0, 1000)}`);
      assert.ok(!/[\r\n]/.test(raw), "the frame has several lines");
      const event = JSON.parse(raw);
      assert.deepEqual([event.type, event.subject], ["event", "user.alice"]);
      assert.match(event.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      assert.equal("id" in event, false);
      assert.notEqual("data" in event, "data_base64" in event);
      alice.ws.close();
    });
  }

  test("a message's id, and what is never stored", async () => {
    const alice = await gateway.connect("alice");
    await gateway.publish("flash.user.alice", "1", "--header", "Nats-Msg-Id:m-1");
    const { subject, id, data } = await alice.next();
    assert.deepEqual({ subject, id, data }, { subject: "user.alice", id: "m-1", data: 1 });
    alice.ws.close();
  });

  test("each user's own, and everybody's", async () => {
    const [alice, bob] = await Promise.all([gateway.connect("alice"), gateway.connect("bob")]);
    await gateway.publish("push.user.alice", "for alice");
    await gateway.publish("push.user.bob", "for bob");
    await gateway.publish("push.broadcast", "for all");
    for (const [user, client] of Object.entries({ alice, bob })) {
      // Order holds for each subject alone.
      const events = [await client.next(), await client.next()].map((e) => `${e.subject}: ${e.data}`);
      assert.deepEqual(events.toSorted(), ["broadcast: for all", `user.${user}: for ${user}`]);
    }
    await alive(alice, "nothing else");
    await alive(bob, "nothing else");
    alice.ws.close();
    bob.ws.close();
  });

  test("the demo page's backend mints and publishes", async () => {
    const { token } = await gateway.dev("token?sub=carol");
    const carol = await gateway.open(carriers.query(token));
    assert.equal(carol.first.user, "carol");
    const data = { hello: ["world", 1, null] };
    await gateway.dev("publish", { subject: "push.user.carol", data });
    assert.deepEqual((await carol.next()).data, data);
    carol.ws.close();
  });
});

describe("what a client sends", () => {
  test("pings", async () => {
    const alice = await gateway.connect("alice");
    assert.equal(await alice.ping("are you there?"), "are you there?");
    assert.equal(await alice.ping(""), "");
    await alive(alice, "1");
    alice.ws.close();
  });

  test("messages that make no sense leave the session open", async () => {
    const alice = await gateway.connect("alice");
    for (const message of ["{nope", "[]", '{"type":"dance"}', '{"type":1}']) {
      alice.send(message);
      const { type, code, message: why } = await alice.next();
      assert.deepEqual([type, code], ["error", "bad_request"], message);
      assert.ok(why.length > 0, "the error has no message");
    }
    alice.send({ type: "dance", ref: "7" });
    assert.equal((await alice.next()).ref, "7");
    await alive(alice, "still here");
    alice.ws.close();
  });

  for (const [name, message, code] of [
    ["a binary message", Buffer.from("{}"), 1003],
    ["a message of 5000 bytes", "x".repeat(5000), 1009],
  ]) {
    test(`${name} ends the session with ${code}`, async () => {
      const alice = await gateway.connect("alice");
      alice.ws.send(message);
      assert.equal(await alice.end(), code);
    });
  }

  test("its close code is echoed", async () => {
    for (const code of [1000, 3000, 4321]) {
      const alice = await gateway.connect("alice");
      alice.ws.close(code, "enough");
      assert.equal(await alice.end(), code);
    }
    const alice = await gateway.connect("alice");
    alice.ws.close();
    assert.equal(await alice.end(), 1005, "no code is answered by none");
  });
});

test("SIGTERM drains", async (t) => {
  const leaving = await Gateway.start();
  t.after(() => leaving.stop());
  const clients = await Promise.all(["alice", "bob"].map((user) => leaving.connect(user)));
  const stopped = leaving.stop();
  for (const client of clients) {
    const drain = await client.next();
    assert.equal(drain.type, "drain");
    assert.ok(Number.isInteger(drain.reconnect_after_ms) && drain.reconnect_after_ms >= 0);
    assert.equal(await client.end(), 1001);
  }
  assert.deepEqual(await stopped, { code: 0, signal: null });
});

// Last: by now the log has seen good tokens and bad ones in each carrier.
test("no token shows in the log", () => {
  assert.match(gateway.log, /gateway is up/);
  assert.doesNotMatch(gateway.log, /eyJ[\w-]{10,}|garbage/);
});
