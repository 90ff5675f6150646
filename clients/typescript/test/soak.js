// One client for as long as you like, through everything that ends a session:
//
//     npm run soak -- --minutes 30 --troubles 50
//
// A backend publishes stored events all the time. In the end the app must have
// each of them once, in order, and must never have been told that some are
// missing. Exits with 1 when that is not so.

import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import WebSocket from "ws";
import { Pushgate } from "../dist/index.js";
import { startStage, token, until } from "./gateway.js";
import { Proxy } from "./proxy.js";

// Node has no word for a network that is back: this plays the browser's part.
const browser = new EventTarget();
globalThis.addEventListener = browser.addEventListener.bind(browser);

/** Runs it, and returns what was seen. */
export async function soak({ minutes, troubles, rate = 20, say = () => {} }) {
  const stage = await startStage();
  const gateway = await stage.gateway();
  const proxy = await new Proxy(gateway.url).listen();
  const seen = { published: 0, received: 0, lost: 0, doubled: 0, disordered: 0, incomplete: 0, sessions: {}, troubles: {} };
  const gate = new Pushgate(proxy.url, { token: () => token("alice", { ttl: 20 }), WebSocket, timeout: 2000 });
  const got = [];
  gate.addEventListener("event", ({ detail }) => got.push(detail.data));
  gate.addEventListener("incomplete", () => seen.incomplete++);
  gate.addEventListener("open", ({ detail }) => (seen.sessions[detail.transport] = (seen.sessions[detail.transport] ?? 0) + 1));
  await until(() => gate.state === "open", "the first session");

  let over = false;
  const publishing = (async () => {
    while (!over) {
      await stage.push(seen.published % 3 ? "user.alice" : "broadcast", seen.published);
      seen.published++;
      await pause(1000 / rate);
    }
  })();

  const away = async (blocked = {}) => {
    proxy.cut();
    await pause(Math.random() * 1500);
    Object.assign(proxy, { refusesUpgrade: false, buffersStreams: false }, blocked);
    proxy.restore();
    browser.dispatchEvent(new Event("online"));
  };
  const all = {
    "killed": () => gateway.kill().then(() => gateway.start()),
    "another network, with a proxy": () => away({ refusesUpgrade: true }),
    "drained": () => gateway.drain().then(() => gateway.start()),
    "another network, with a worse proxy": () => away({ refusesUpgrade: true, buffersStreams: true }),
    "frozen, then killed": () => gateway.freeze().then(() => gate.wake()).then(() => pause(200)).then(() => gateway.kill()).then(() => gateway.start()),
    "no network": () => away({ refusesUpgrade: proxy.refusesUpgrade, buffersStreams: proxy.buffersStreams }),
    "another network, without a proxy": () => away(),
  };
  const names = Object.keys(all);
  const began = Date.now();
  for (let n = 0; n < troubles; n++) {
    const name = names[n % names.length];
    await all[name]();
    seen.troubles[name] = (seen.troubles[name] ?? 0) + 1;
    // Half of the troubles meet a client that has not recovered from the last.
    if (n % 2) await until(() => gate.state === "open", "a session");
    say(`${n + 1} of ${troubles}: ${name}; ${got.length} of ${seen.published} received, now by ${gate.transport}`);
    await pause(Math.max(0, began + ((n + 1) / troubles) * minutes * 60_000 - Date.now()));
  }
  over = true;
  await publishing;
  await until(() => new Set(got).size >= seen.published, "the last events").catch(() => {});
  gate.close();
  proxy.close();
  await gateway.kill();
  await stage.stop();

  seen.received = got.length;
  seen.lost = seen.published - new Set(got).size;
  seen.doubled = got.length - new Set(got).size;
  seen.disordered = got.filter((n, i) => i && n < got[i - 1]).length;
  return seen;
}

export const clean = ({ lost, doubled, disordered, incomplete }) => lost + doubled + disordered + incomplete === 0;

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { minutes: { type: "string", default: "30" }, troubles: { type: "string", default: "50" } } });
  const seen = await soak({ minutes: +values.minutes, troubles: +values.troubles, say: console.log });
  console.log(JSON.stringify(seen, null, 2));
  process.exitCode = clean(seen) ? 0 : 1;
}
