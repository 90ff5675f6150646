// The client on a WebSocket, against the real gateway.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import WebSocket from "ws";
import { Pushgate } from "../dist/index.js";
import { freePort, startStage, token, until, within } from "./gateway.js";
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

/** A client whose record is kept; closed with the test. */
function client(t, options = {}, url = gateway.url) {
  const gate = new Pushgate(url, { token: () => token("alice"), WebSocket, ...options });
  t.after(() => gate.close());
  return [gate, new Record(gate)];
}

let users = 0;
const newUser = () => `user${++users}`;

describe("events", () => {
  test("come to listeners and to for await, from the start", async (t) => {
    const user = newUser();
    const [gate, record] = client(t, { token: token(user) });
    assert.equal(gate.state, "connecting");
    const iterated = (async () => {
      const got = [];
      for await (const { data } of gate) if (got.push(data) === 2) return got;
    })();
    const open = await record.nth("open");
    assert.deepEqual([open.transport, open.user], ["websocket", user]);
    assert.deepEqual(open.subjects.toSorted(), ["broadcast", `user.${user}`]);
    assert.equal(gate.state, "open");
    await stage.push(`user.${user}`, { n: 1 });
    stage.nats.publish(`flash.user.${user}`, "not stored");
    await record.events(2);
    const [stored, flash] = record.all("event").toSorted((a) => (a.cursor ? -1 : 1));
    assert.deepEqual(stored.data, { n: 1 });
    assert.equal(flash.data, "not stored");
    assert.equal(flash.cursor, undefined);
    assert.equal(gate.cursor, stored.cursor);
    assert.equal((await within(iterated, "what was iterated over")).length, 2);
  });

  test("for await ends with close, and throws what the gateway ended it with", async (t) => {
    const user = newUser();
    const [quiet, quietRecord] = client(t);
    const done = (async () => {
      for await (const _ of quiet);
      return "ended";
    })();
    await quietRecord.nth("open");
    quiet.close();
    assert.equal(await within(done, "the end of the iteration"), "ended");
    assert.equal(quiet.state, "closed");

    const [gate, record] = client(t, { token: () => token(user) });
    const failed = assert.rejects(async () => {
      for await (const _ of gate);
    }, { code: 4000 });
    await record.nth("open");
    await stage.control("disconnect", { user });
    await within(failed, "the end of the iteration");
    const close = await record.nth("close");
    assert.deepEqual([close.code, close.retry, gate.state], [4000, undefined, "closed"]);
  });

  test("a for await that never catches up is told", async (t) => {
    const user = newUser();
    const [gate, record] = client(t, { token: token(user), queue: 10 });
    const events = gate[Symbol.asyncIterator]();
    const first = events.next();
    await record.nth("open");
    for (let n = 0; n < 20; n++) await stage.push(`user.${user}`, n);
    await record.events(20);
    assert.equal((await first).value.data, 0);
    const rest = [];
    await assert.rejects(async () => {
      for (;;) rest.push((await events.next()).value.data);
    }, { code: "overflow" });
    assert.deepEqual(rest, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].slice(0, rest.length));
    assert.ok(rest.length >= 9, `${rest}`);
  });
});

describe("a session that is lost", () => {
  test("kill -9: everything comes, once, and in order", async (t) => {
    const own = await stage.gateway();
    t.after(() => own.kill());
    const user = newUser();
    const [gate, record] = client(t, { token: () => token(user) }, own.url);
    await record.nth("open");
    let sent = 0;
    for (let round = 1; round <= 3; round++) {
      for (let i = 0; i < 5; i++) await stage.push(`user.${user}`, sent++);
      await own.kill();
      for (let i = 0; i < 5; i++) await stage.push(`user.${user}`, sent++);
      assert.equal((await record.ended(round)).code, 1006);
      await own.start();
      await record.nth("open", round + 1);
    }
    assert.deepEqual(await record.events(sent), Array.from({ length: sent }, (_, n) => n));
    assert.ok(record.all("resumed").every((resumed) => resumed.complete));
    assert.deepEqual(record.all("incomplete"), []);
    assert.ok((await record.ended()).retry <= 500, "the first attempt comes soon");
    assert.equal(gate.state, "open");
  });

  test("drain: the client waits for as long as it is told, and goes on", async (t) => {
    const own = await stage.gateway();
    t.after(() => own.kill());
    const user = newUser();
    const [, record] = client(t, { token: () => token(user) }, own.url);
    await record.nth("open");
    await own.drain();
    const drain = await record.nth("drain");
    const close = await record.ended();
    assert.deepEqual([close.code, close.retry], [1001, drain.reconnect_after_ms]);
    await stage.push(`user.${user}`, "meanwhile");
    await own.start();
    assert.deepEqual(await record.events(1), ["meanwhile"]);
  });

  test("a gateway that is silent is given up", async (t) => {
    const own = await stage.gateway({ GATEWAY_HEARTBEAT: "10s" });
    t.after(() => own.kill());
    const user = newUser();
    const [, record] = client(t, { token: () => token(user) }, own.url);
    assert.equal((await record.nth("open")).heartbeat, 10);
    await record.nth("pong", 3); // quiet is not silent
    assert.deepEqual(record.all("close"), []);
    await own.freeze();
    const { reason } = await record.ended();
    assert.equal(reason, "silent");
    await stage.push(`user.${user}`, "meanwhile");
    own.thaw();
    assert.deepEqual(await record.events(1), ["meanwhile"]);
  });

  test("wake looks at once", async (t) => {
    const own = await stage.gateway();
    t.after(() => own.kill());
    const [gate, record] = client(t, {}, own.url);
    await record.nth("open");
    await own.freeze();
    const began = Date.now();
    gate.wake();
    await record.nth("close");
    assert.ok(Date.now() - began < 25_000, "a heartbeat of 60 s has not passed");
    own.thaw();
  });

  test("the app's next client goes on where this one was", async (t) => {
    const user = newUser();
    const [gate, record] = client(t, { token: () => token(user) });
    await record.nth("open");
    await stage.push(`user.${user}`, 1);
    await record.events(1);
    gate.close();
    await stage.push(`user.${user}`, 2);
    const [, next] = client(t, { token: () => token(user), cursor: gate.cursor });
    assert.deepEqual(await next.events(1), [2]);
    await next.nth("resumed");
  });

  test("history that is gone is said to be", async (t) => {
    const own = await startStage();
    t.after(() => own.stop());
    const front = await own.gateway();
    t.after(() => front.kill());
    const user = newUser();
    const [gate, record] = client(t, { token: () => token(user) }, front.url);
    await record.nth("open");
    await own.push(`user.${user}`, 1);
    await record.events(1);
    await front.kill();
    await own.push(`user.${user}`, "lost");
    await own.nats.request("$JS.API.STREAM.PURGE.PUSH", "{}");
    await front.start();
    await record.nth("incomplete");
    await own.push(`user.${user}`, 2);
    assert.deepEqual(await record.events(2), [1, 2]);
    assert.equal(record.all("resumed").at(-1).complete, false);
    assert.equal(gate.state, "open");
  });

  test("without a stream a reconnect is incomplete", async (t) => {
    const own = await stage.gateway({ GATEWAY_DURABLE_STREAM: "" });
    t.after(() => own.kill());
    const [gate, record] = client(t, {}, own.url);
    await record.nth("open");
    assert.equal(gate.cursor, undefined);
    assert.deepEqual(record.all("incomplete"), []);
    await own.kill();
    await own.start();
    await record.nth("open", 2);
    await record.nth("incomplete");
  });
});

describe("tokens", () => {
  test("are renewed within the session, before they expire", async (t) => {
    const user = newUser();
    let asked = 0;
    const [, record] = client(t, {
      token: async () => {
        asked++;
        return token(user, { ttl: 5 });
      },
    });
    const { expires } = await record.nth("open");
    const first = await record.nth("renewed");
    const second = await record.nth("renewed", 2);
    assert.ok(expires < first.expires && first.expires < second.expires);
    assert.ok(asked >= 3);
    assert.deepEqual(record.all("close"), []);
    await stage.push(`user.${user}`, 1);
    await record.events(1);
  });

  test("one that is too long for a message is brought by a new connection", async (t) => {
    const user = newUser();
    const [, record] = client(t, { token: () => token(user, { ttl: 3, filler: "x".repeat(4000) }) });
    await record.nth("open");
    await record.nth("open", 2);
    assert.equal(record.all("close")[0].code, 1000);
    assert.equal(record.all("close")[0].retry, 0);
    await stage.push(`user.${user}`, 1);
    await record.events(1);
  });

  test("one that has expired is replaced, and nothing is lost", async (t) => {
    const user = newUser();
    let broken = false;
    const [, record] = client(t, {
      token: () => {
        if (broken) throw new Error("the app's backend is away");
        broken = true; // so that nothing is renewed before it expires
        return token(user, { ttl: 3 });
      },
    });
    await record.nth("open");
    await record.nth("error");
    const { code } = await record.nth("close");
    assert.equal(code, 4200);
    assert.equal((await record.nth("close", 2)).code, "token");
    await stage.push(`user.${user}`, "meanwhile");
    broken = false;
    assert.deepEqual(await record.events(1), ["meanwhile"]);
  });

  test("a string that has expired is the end", async (t) => {
    const [gate, record] = client(t, { token: token("alice", { ttl: 2 }) });
    assert.equal((await record.nth("close")).code, 4200);
    const last = await record.nth("close", 2);
    assert.deepEqual([last.code, last.retry, gate.state], ["token", undefined, "closed"]);
    await assert.rejects(gate.subscribe("rooms.1"), { code: "token" });
  });

  test("one that is refused is replaced once", async (t) => {
    const offered = [token("alice", { ttl: -10 }), token("alice")];
    const [, record] = client(t, { token: () => offered.shift() });
    await record.nth("open");
    const [{ code, reason, retry }] = record.all("close");
    assert.deepEqual([code, retry], ["unauthorized", 0]);
    assert.match(reason, /expired/);

    const [gate, second] = client(t, { token: () => token("alice", { ttl: -10 }) });
    await second.nth("close", 2);
    assert.deepEqual(second.all("close").map((close) => [close.code, close.retry]), [["unauthorized", 0], ["unauthorized", undefined]]);
    assert.equal(gate.state, "closed");
  });

  test("nobody who has one is the end", async (t) => {
    const [gate, record] = client(t, { token: () => null });
    assert.equal((await record.nth("close")).code, "token");
    assert.equal(gate.state, "closed");
  });

  test("renewed as somebody else: stops", async (t) => {
    const [one, other] = [newUser(), newUser()];
    let asked = 0;
    const [gate, record] = client(t, { token: () => token(asked++ ? other : one, { ttl: 4 }) });
    const { code, retry } = await record.nth("close");
    assert.deepEqual([code, retry, gate.state], [4002, undefined, "closed"]);
  });

  test("a subject that a renewed token does not grant goes", async (t) => {
    const user = newUser();
    let asked = 0;
    const [, record] = client(t, {
      token: () => token(user, { ttl: 5, subscribe: asked++ ? [] : ["rooms.*"] }),
      subjects: [`rooms.${user}`],
    });
    await record.nth("open");
    assert.deepEqual((await record.nth("unsubscribed")).subject, `rooms.${user}`);
  });
});

describe("refused handshakes", () => {
  test("too many at once: the reason is found, Retry-After kept, and in the end all are in", async (t) => {
    const own = await stage.gateway({ GATEWAY_LIMITS_HANDSHAKES_PER_SECOND: "2" });
    t.after(() => own.kill());
    const crowd = Array.from({ length: 6 }, () => client(t, {}, own.url));
    for (const [, record] of crowd) await record.nth("open");
    const closes = crowd.flatMap(([, record]) => record.all("close"));
    const refused = closes.filter((close) => close.code === "rate");
    assert.ok(refused.length > 0, JSON.stringify(closes));
    for (const { reason, retry } of refused) assert.ok(reason.length > 0 && retry >= 1000, `${reason}, and ${retry} ms`);
  });

  test("nobody there: backs off, and further each time", async (t) => {
    const [, record] = client(t, {}, `http://127.0.0.1:${await freePort()}`);
    await record.nth("close", 3);
    for (const [n, { code, retry }] of record.all("close").entries()) {
      assert.equal(code, "network");
      assert.ok(retry <= 500 * 2 ** n, `attempt ${n} comes after ${retry} ms`);
    }
  });
});

describe("subjects", () => {
  const granting = (user) => () => token(user, { subscribe: ["rooms.>"] });

  test("are subscribed to and given up", async (t) => {
    const user = newUser();
    const [gate, record] = client(t, { token: granting(user) });
    await record.nth("open");
    await gate.subscribe(`rooms.${user}`);
    await stage.push(`rooms.${user}`, 1);
    await record.events(1);
    gate.unsubscribe(`rooms.${user}`);
    await record.nth("unsubscribed");
    await stage.push(`rooms.${user}`, "not wanted");
    await stage.push(`user.${user}`, 2);
    assert.deepEqual(await record.events(2), [1, 2]);
    await assert.rejects(gate.subscribe("secrets"), { code: "forbidden" });
  });

  test("asked for before there is a session, and kept over reconnects", async (t) => {
    const own = await stage.gateway();
    t.after(() => own.kill());
    const user = newUser();
    const [gate, record] = client(t, { token: granting(user), subjects: [`rooms.${user}.a`] }, own.url);
    await within(gate.subscribe(`rooms.${user}.b`), "a subscription from before the session");
    await record.nth("open");
    await gate.subscribe(`rooms.${user}.c`);
    await own.kill();
    for (const room of ["a", "b", "c"]) await stage.push(`rooms.${user}.${room}`, room);
    await own.start();
    assert.deepEqual(await record.events(3), ["a", "b", "c"]);
    assert.ok(record.all("event").every((event) => !event.replay));
  });

  test("one of the token's own that is given up stays away over reconnects", async (t) => {
    const own = await stage.gateway();
    t.after(() => own.kill());
    const user = newUser();
    const [gate, record] = client(t, { token: granting(user) }, own.url);
    await record.nth("open");
    gate.unsubscribe("broadcast");
    await record.nth("unsubscribed");
    await own.kill();
    await own.start();
    await record.nth("unsubscribed", 2);
    await stage.push("broadcast", "for all");
    await stage.push(`user.${user}`, "for one");
    assert.deepEqual(await record.events(1), ["for one"]);
    await gate.subscribe("broadcast");
    await stage.push("broadcast", "for all again");
    assert.deepEqual(await record.events(2), ["for one", "for all again"]);
  });

  test("one that is not granted does not cost the others the session", async (t) => {
    const user = newUser();
    const [gate, record] = client(t, { token: granting(user), subjects: [`rooms.${user}`] });
    await assert.rejects(within(gate.subscribe("secrets"), "the refusal of a subject"), { code: "forbidden" });
    assert.equal((await record.nth("unsubscribed")).subject, "secrets");
    await record.nth("open");
    await stage.push(`rooms.${user}`, 1);
    await record.events(1);
  });

  test("the past of one: the last, all, and behind a place", async (t) => {
    const user = newUser();
    const rooms = `rooms.${user}`;
    for (const n of [1, 2, 3]) {
      await stage.push(`${rooms}.a`, `a${n}`);
      await stage.push(`${rooms}.b`, `b${n}`);
    }
    const [gate, record] = client(t, { token: granting(user) });
    await record.nth("open");
    const take = async (subject, past) => {
      const [events, replays] = [record.all("event").length, record.all("resumed").length];
      await gate.subscribe(subject, past);
      const resumed = await record.nth("resumed", replays + 1);
      assert.deepEqual([resumed.complete, resumed.subject], [true, subject]);
      return record.all("event").slice(events);
    };
    const last = await take(`${rooms}.*`, { from: "last" });
    assert.deepEqual(last.map((event) => event.data), ["a3", "b3"]);
    assert.ok(last.every((event) => event.replay));
    const all = await take(`${rooms}.a`, { from: "start" });
    assert.deepEqual(all.map((event) => event.data), ["a1", "a2", "a3"]);
    const some = await take(`${rooms}.a`, { cursor: all[0].cursor });
    assert.deepEqual(some.map((event) => event.data), ["a2", "a3"]);
    await stage.push(`${rooms}.a`, "live");
    const live = (await until(() => record.all("event").find((event) => event.data === "live"), "what comes live"));
    assert.equal(live.replay, undefined);
    assert.deepEqual(record.all("incomplete"), []);
  });

  test("a replay that is interrupted goes on where it was", async (t) => {
    const own = await stage.gateway({ GATEWAY_DURABLE_RING_BYTES: "64KiB" });
    t.after(() => own.kill());
    const user = newUser();
    const count = 400;
    for (let n = 0; n < count; n++) stage.nats.publish(`push.rooms.${user}`, JSON.stringify({ n, filler: "x".repeat(4000) }));
    await stage.push(`rooms.${user}`, { n: count });
    const [gate, record] = client(t, { token: granting(user) }, own.url);
    await record.nth("open");
    gate.addEventListener("event", () => record.all("event").length === 5 && own.kill(), {});
    await gate.subscribe(`rooms.${user}`, { from: "start" });
    await record.nth("close");
    const before = record.all("event").length;
    assert.ok(before < count, `the replay was over after ${before}`);
    await stage.push(`rooms.${user}`, { n: count + 1 });
    await own.start();
    await record.nth("resumed", 1);
    const numbers = (await record.events(count + 2)).map((data) => data.n);
    assert.deepEqual(numbers, Array.from({ length: count + 2 }, (_, n) => n));
  });
});

test("ack reaches the backend, also one from before the session", async (t) => {
  const user = newUser();
  const acks = stage.nats.subscribe(`pushgate.ack.${user}`);
  const [gate, record] = client(t, { token: token(user), device: "phone" });
  await record.nth("open");
  await stage.push(`user.${user}`, 1);
  await record.events(1);
  gate.ack();
  const next = acks[Symbol.asyncIterator]();
  const { value } = await within(next.next(), "an acknowledgement");
  const ack = value.json();
  assert.deepEqual([ack.user, ack.device, ack.cursor], [user, "phone", gate.cursor]);
  gate.close();
  await stage.push(`user.${user}`, 2);
  const [, phone] = client(t, { token: token(user), device: "phone" });
  assert.deepEqual(await phone.events(1), [2]);
  assert.equal(phone.all("event")[0].cursor > ack.cursor, true);
});

test("close leaves nothing behind that keeps a process alive", async () => {
  const program = `
    import WebSocket from "ws";
    import { Pushgate } from "./dist/index.js";
    for (const url of process.argv.slice(1)) {
      const gate = new Pushgate(url, { token: ${JSON.stringify(token("alice"))}, WebSocket });
      gate.addEventListener("open", () => gate.close());
      gate.addEventListener("close", () => gate.close(), { once: true });
    }`;
  const urls = [gateway.url, `http://127.0.0.1:${await freePort()}`];
  const child = spawn(process.execPath, ["--input-type=module", "-e", program, ...urls], { stdio: "inherit" });
  assert.deepEqual(await within(once(child, "exit"), "the end of a process that closed its clients"), [0, null]);
});
