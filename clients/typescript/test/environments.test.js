// Where else the client must work: React Native, which has fewer globals, and
// the compilers of those who use it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync, mkdirSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { createContext, Script } from "node:vm";
import { build } from "esbuild";
import WebSocket from "ws";
import { startStage, token, until } from "./gateway.js";
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

/** The module as an engine with these globals only sees it. */
async function inside(globals) {
  const { outputFiles } = await build({ entryPoints: ["dist/react-native.js"], bundle: true, format: "iife", globalName: "module", write: false });
  const context = createContext(globals);
  new Script(`${outputFiles[0].text}; globalThis.module = module`).runInContext(context);
  return context.module;
}

// What React Native has had for years; no EventTarget, no Event, no document,
// no streams, no TextDecoder.
const fewer = () => ({ WebSocket, fetch, URL, URLSearchParams, AbortController, setTimeout, clearTimeout, console });

for (const blocked of [false, true]) {
  test(`React Native's globals, ${blocked ? "long polls" : "a WebSocket"}`, async (t) => {
    const { Pushgate } = await inside(fewer());
    const proxy = Object.assign(await new Proxy(gateway.url).listen(), { refusesUpgrade: blocked });
    t.after(() => proxy.close());
    const user = `native${+blocked}`;
    const gate = new Pushgate(proxy.url, { token: () => token(user) });
    t.after(() => gate.close());
    const record = new Record(gate);
    assert.equal((await record.nth("open")).transport, blocked ? "poll" : "websocket");
    await stage.push(`user.${user}`, 1);
    proxy.cut();
    await stage.push(`user.${user}`, 2);
    await until(() => gate.state !== "open", "a lost session");
    proxy.restore();
    gate.wake();
    assert.deepEqual(await record.events(2), [1, 2]);
  });
}

test("listeners in React Native: once, objects, those that throw, and removal", async (t) => {
  const thrown = [];
  const { Pushgate } = await inside({ ...fewer(), setTimeout: (go, ms) => setTimeout(() => { try { go(); } catch (error) { thrown.push(error.message); } }, ms) });
  const gate = new Pushgate(gateway.url, { token: token("listener") });
  t.after(() => gate.close());
  const heard = [];
  const removed = () => heard.push("removed");
  gate.addEventListener("event", () => { throw new Error("the app's own fault"); });
  gate.addEventListener("event", () => heard.push("once"), { once: true });
  gate.addEventListener("event", { handleEvent: ({ type, detail }) => heard.push(`${type} ${detail.data}`) });
  gate.addEventListener("event", removed);
  gate.removeEventListener("event", removed);
  await new Record(gate).nth("open");
  await stage.push("user.listener", 1);
  await stage.push("user.listener", 2);
  await until(() => heard.length === 3, "what listeners hear");
  assert.deepEqual(heard, ["once", "event 1", "event 2"]);
  await until(() => thrown.length === 2, "what a listener throws");
});

test("types: what is right compiles, what is wrong does not", () => {
  const folder = mkdtempSync("dist/types-");
  try {
    mkdirSync(path.join(folder, "node_modules"));
    symlinkSync(path.resolve("."), path.join(folder, "node_modules", "pushgate"));
    const right = `
      import { Pushgate, PushgateError, type PushEvent } from "pushgate";
      import WS from "ws";
      interface Message { text: string }
      const gate = new Pushgate<Message>("https://push.example", { token: async () => "t", WebSocket: WS, transports: ["websocket", "poll"] });
      new Pushgate("https://push.example", { token: "t", WebSocket });
      gate.addEventListener("event", ({ detail }) => { const text: string | undefined = detail.data?.text; void text; }, { once: true });
      gate.addEventListener("close", ({ detail: { code, retry } }) => { if (retry === undefined) console.log(code); });
      gate.addEventListener("error", ({ detail }) => { const e: PushgateError = detail; void e; });
      await gate.subscribe("rooms.1", { from: "last" });
      for await (const event of gate) { const e: PushEvent<Message> = event; void e; }
      gate.ack(); gate.wake(); gate.close();
    `;
    const wrong = [
      'new Pushgate("https://push.example", {});',
      'gate.addEventListener("events", () => {});',
      'gate.addEventListener("event", ({ detail }) => { const n: number = detail.subject; void n; });',
      'void gate.subscribe("rooms.1", { from: "first" });',
    ].map((line) => `// @ts-expect-error\n${line}`);
    writeFileSync(path.join(folder, "app.mts"), [right, ...wrong].join("\n"));
    const flags = "--ignoreConfig --noEmit --strict --target es2022 --module nodenext --lib es2023,dom --types node";
    execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", ...flags.split(" "), path.join(folder, "app.mts")], { encoding: "utf8" });
  } catch (error) {
    assert.fail(error.stdout || error);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("nothing is needed at run time", () => {
  const { dependencies, peerDependencies } = JSON.parse(readFileSync("package.json", "utf8"));
  assert.deepEqual([dependencies, peerDependencies], [undefined, undefined]);
  for (const file of ["index.js", "react-native.js", "pushgate.min.js"]) {
    assert.doesNotMatch(readFileSync(`dist/${file}`, "utf8"), /\bimport\b|\brequire\(/, file);
  }
});
