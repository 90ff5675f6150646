// The client behind proxies and networks that get in its way.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import WebSocket from "ws";
import { Pushgate } from "../dist/index.js";
import { startStage, token, until, within } from "./gateway.js";
import { Proxy } from "./proxy.js";
import { Record } from "./record.js";

let stage;
let gateway;
before(async () => {
  stage = await startStage();
  gateway = await stage.gateway();
});
after(async () => {
  await gateway.kill();
  await stage.stop();
});

let users = 0;

async function setUp(t, { proxy: blocked = {}, claims = {}, ...options } = {}, to = gateway) {
  const proxy = Object.assign(await new Proxy(to.url).listen(), blocked);
  t.after(() => proxy.close());
  const user = `user${++users}`;
  const gate = new Pushgate(proxy.url, { token: () => token(user, { subscribe: ["rooms.>"], ...claims }), WebSocket, timeout: blocked.buffersStreams ? 3000 : 15_000, ...options });
  t.after(() => gate.close());
  let sent = 0;
  return {
    user,
    proxy,
    gate,
    record: new Record(gate),
    push: () => stage.push(`user.${user}`, ++sent),
    numbers: () => Array.from({ length: sent }, (_, n) => n + 1),
  };
}

test("a proxy that refuses the upgrade: server-sent events", async (t) => {
  const { record, gate, push, numbers } = await setUp(t, { proxy: { refusesUpgrade: true } });
  const { transport, user } = await record.nth("open");
  assert.deepEqual([transport, gate.transport], ["sse", "sse"]);
  assert.match(user, /^user/);
  await push();
  await push();
  assert.deepEqual(await record.events(2), numbers());
  assert.equal(record.all("close").length, 1);
});

test("one that buffers streams as well: long polls", async (t) => {
  const { record, gate, push, numbers } = await setUp(t, { proxy: { refusesUpgrade: true, buffersStreams: true } });
  assert.equal((await record.nth("open")).transport, "poll");
  for (let n = 1; n <= 3; n++) {
    await push();
    await record.events(n);
  }
  assert.deepEqual(record.data, numbers());
  assert.equal(gate.transport, "poll");
});

for (const transport of ["websocket", "sse", "poll"]) {
  test(`${transport}: the network goes and comes back`, async (t) => {
    const { record, proxy, push, numbers } = await setUp(t, { transports: [transport] });
    await record.nth("open");
    for (let round = 1; round <= 2; round++) {
      await push();
      proxy.cut();
      await push();
      await record.ended(round);
      proxy.restore();
      await record.nth("open", round + 1);
      await push();
    }
    assert.deepEqual(await record.events(6), numbers());
    assert.deepEqual(record.all("incomplete"), []);
  });

  test(`${transport}: a token that expires, and one that is refused`, async (t) => {
    const user = `user${++users}`;
    let asked = 0;
    const { record } = await setUp(t, { transports: [transport], token: () => token(user, { ttl: asked++ ? 3 : -5 }) });
    await record.nth("open");
    assert.equal(record.all("close")[0].code, "unauthorized");
    let sent = 0;
    await until(async () => {
      await stage.push(`user.${user}`, ++sent);
      await record.events(sent); // a poll is through, and the next one needs a token
      return asked >= 4;
    }, "a token beyond the second");
    assert.deepEqual(record.data, Array.from({ length: sent }, (_, n) => n + 1));
  });

  test(`${transport}: kill -9`, async (t) => {
    const own = await stage.gateway();
    t.after(() => own.kill());
    const { record, push, numbers } = await setUp(t, { transports: [transport] }, own);
    await record.nth("open");
    await push();
    await record.events(1);
    await own.kill();
    await push();
    await record.ended();
    await own.start();
    assert.deepEqual(await record.events(2), numbers());
  });

  test(`${transport}: drain`, async (t) => {
    const own = await stage.gateway();
    t.after(() => own.kill());
    const { record, push, numbers } = await setUp(t, { transports: [transport] }, own);
    await record.nth("open");
    await own.drain();
    await push();
    if (transport !== "poll") {
      // It waits for as long as it was told.
      const [{ reconnect_after_ms: told }, { code, retry }] = [await record.nth("drain"), await record.ended()];
      assert.deepEqual([code, retry], [1001, told]);
    }
    await own.start();
    assert.deepEqual(await record.events(1), numbers());
  });

  test(`${transport}: subjects come and go`, async (t) => {
    const { record, gate, user } = await setUp(t, { transports: [transport] });
    await record.nth("open");
    await within(gate.subscribe(`rooms.${user}.a`), "a subscription");
    await stage.push(`rooms.${user}.a`, 1);
    await record.events(1);
    await assert.rejects(within(gate.subscribe("secrets"), "a refusal"), { code: "forbidden" });
    await within(gate.subscribe(`rooms.${user}.b`), "a second subscription");
    gate.unsubscribe(`rooms.${user}.a`);
    gate.unsubscribe("broadcast");
    if (transport === "websocket") await record.nth("unsubscribed", 3);
    else await until(() => gate.state === "open", "a session without the subject");
    await stage.push(`rooms.${user}.a`, "not wanted");
    await stage.push("broadcast", "not wanted");
    await stage.push(`rooms.${user}.b`, 2);
    assert.deepEqual(await record.events(2), [1, 2]);
  });
}

test("sse: a stream that falls silent is given up", async (t) => {
  const own = await stage.gateway({ GATEWAY_HEARTBEAT: "5s" });
  t.after(() => own.kill());
  const { record, push, numbers } = await setUp(t, { transports: ["sse"] }, own);
  await record.nth("open");
  await pause(11_000); // quiet for longer than its heartbeat is not silent
  assert.deepEqual(record.all("close"), []);
  await own.freeze();
  assert.equal((await record.ended()).reason, "silent");
  await push();
  own.thaw();
  assert.deepEqual(await record.events(1), numbers());
});

test("where one subject's past cannot be had, the app is told", async (t) => {
  const { record, gate, user } = await setUp(t, { transports: ["sse"] });
  await record.nth("open");
  await within(gate.subscribe(`rooms.${user}`, { from: "last" }), "a subscription");
  assert.deepEqual(record.all("incomplete"), [{ subject: `rooms.${user}` }]);
});

test("history that is gone is said to be, by every transport", async (t) => {
  const own = await startStage();
  t.after(() => own.stop());
  const front = await own.gateway();
  t.after(() => front.kill());
  const clients = await Promise.all(["websocket", "sse", "poll"].map((transport) => setUp(t, { transports: [transport] }, front)));
  for (const { record, user } of clients) {
    await record.nth("open");
    await own.push(`user.${user}`, 1);
    await record.events(1);
  }
  for (const { proxy } of clients) proxy.cut();
  await front.kill();
  await own.push("broadcast", "lost");
  await own.nats.request("$JS.API.STREAM.PURGE.PUSH", "{}");
  await front.start();
  for (const { record, proxy, user } of clients) {
    proxy.restore();
    await record.nth("incomplete");
    await own.push(`user.${user}`, 2);
    assert.deepEqual(await record.events(2), [1, 2]);
  }
});

test("one client over all three in turn: nothing lost, nothing twice", async (t) => {
  const { record, proxy, gate, push, numbers } = await setUp(t);
  await record.nth("open");
  const away = async (blocked) => {
    const opens = record.all("open").length;
    proxy.cut();
    await push();
    await until(() => gate.state !== "open", "a lost session");
    Object.assign(proxy, blocked);
    proxy.restore();
    await record.nth("open", opens + 1);
    await push();
    return gate.transport;
  };
  assert.equal(await away({ refusesUpgrade: true }), "sse");
  assert.equal(await away({ refusesUpgrade: true, buffersStreams: true }), "poll");
  assert.deepEqual(await record.events(4), numbers());
});
