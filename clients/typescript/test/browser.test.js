// The minified bundle in a real browser, against the real gateway, from a page
// of another origin.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { patience, startStage, token, until } from "./gateway.js";
import { Proxy } from "./proxy.js";

const executablePath = ["/usr/bin/chromium", "/usr/bin/google-chrome"].find(existsSync);
const args = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

let stage;
let gateway;
let browser;
let site;
before(async () => {
  stage = await startStage();
  gateway = await stage.gateway();
  browser = await chromium.launch({ executablePath, headless: true, args, timeout: patience });
  site = createServer((request, answer) => {
    if (request.url === "/pushgate.min.js") answer.writeHead(200, { "Content-Type": "text/javascript" }).end(readFileSync("dist/pushgate.min.js"));
    else answer.writeHead(200, { "Content-Type": "text/html" }).end("<!doctype html><title>a page</title>");
  }).listen(0, "127.0.0.1");
  await once(site, "listening");
});
after(async () => {
  await browser?.close();
  site?.close();
  await gateway?.kill();
  await stage?.stop();
});

let users = 0;

/** A page with a client in it, which reaches a gateway through a proxy. */
async function open(t, { blocked = {}, to = gateway, ttl = 3600, ...options } = {}) {
  const proxy = Object.assign(await new Proxy(to.url).listen(), blocked);
  t.after(() => proxy.close());
  const user = `user${++users}`;
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error));
  t.after(() => assert.deepEqual(errors, []));
  await page.exposeFunction("newToken", () => token(user, { ttl: typeof ttl === "function" ? ttl() : ttl }));
  await page.goto(`http://127.0.0.1:${site.address().port}/`);
  await page.evaluate(
    async ({ url, options }) => {
      const { Pushgate } = await import("/pushgate.min.js");
      window.told = [];
      window.gate = new Pushgate(url, { token: () => window.newToken(), ...options });
      for (const type of ["event", "open", "close", "incomplete", "renewed"]) {
        window.gate.addEventListener(type, ({ detail }) => window.told.push([type, detail]));
      }
    },
    { url: proxy.url, options: { timeout: blocked.buffersStreams ? 3000 : 15_000, ...options } },
  );
  const all = (type) => page.evaluate((type) => window.told.filter(([of]) => of === type).map(([, detail]) => detail), type);
  const nth = async (type, n = 1) => (await until(async () => (await all(type))[n - 1] && all(type), `${type} number ${n}`))[n - 1];
  let sent = 0;
  return {
    user,
    proxy,
    page,
    context,
    all,
    nth,
    push: () => stage.push(`user.${user}`, ++sent),
    /** Waits for all that was sent, and sees that it came once and in order. */
    async whole() {
      await nth("event", sent);
      assert.deepEqual((await all("event")).map((event) => event.data), Array.from({ length: sent }, (_, n) => n + 1));
      assert.deepEqual(await all("incomplete"), []);
    },
  };
}

test("kill -9, and a drain", async (t) => {
  const own = await stage.gateway();
  t.after(() => own.kill());
  const { nth, push, whole } = await open(t, { to: own });
  assert.equal((await nth("open")).transport, "websocket");
  await push();
  await own.kill();
  await push();
  await own.start();
  await nth("open", 2);
  await push();
  await own.drain();
  await push();
  await own.start();
  await whole();
});

test("a token that is renewed, one that is refused, one that has expired", async (t) => {
  let asked = 0;
  const { page, nth, all, push, whole } = await open(t, { ttl: () => (asked++ ? 4 : -5) });
  await nth("open");
  assert.equal((await all("close"))[0].code, "unauthorized");
  await nth("renewed");
  await page.evaluate(() => {
    const { newToken } = window;
    window.newToken = async () => {
      if (window.away) throw new Error("away");
      return newToken();
    };
    window.away = true;
  });
  await until(async () => (await all("close")).some((close) => close.code === 4200), "an expired token");
  await push();
  await page.evaluate(() => (window.away = false));
  await whole();
});

for (const [blocked, want] of [
  [{ refusesUpgrade: true }, "sse"],
  [{ refusesUpgrade: true, buffersStreams: true }, "poll"],
]) {
  test(`behind a proxy: ${want}`, async (t) => {
    const own = await stage.gateway();
    t.after(() => own.kill());
    const { nth, push, whole } = await open(t, { to: own, blocked });
    assert.equal((await nth("open")).transport, want);
    await push();
    await own.kill();
    await push();
    await nth("close", want === "sse" ? 2 : 3);
    await own.start();
    await nth("open", 2);
    await push();
    await whole();
  });
}

test("the network goes: the client comes back as soon as the browser says so", async (t) => {
  const { page, proxy, context, nth, all, push, whole } = await open(t);
  await nth("open");
  await push();
  await whole();
  proxy.cut();
  await context.setOffline(true);
  await push();
  await until(async () => (await all("close")).at(-1)?.retry > 3000, "a longer wait");
  proxy.restore();
  await context.setOffline(false); // the browser tells the page
  await nth("open", 2);
  await whole();
  assert.equal(await page.evaluate(() => window.gate.state), "open");
});

test("a page that is seen again looks whether its connection lives", async (t) => {
  const own = await stage.gateway();
  t.after(() => own.kill());
  const { page, nth, push, whole } = await open(t, { to: own });
  await nth("open");
  await own.freeze();
  const began = Date.now();
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange", { bubbles: true })));
  await nth("close");
  assert.ok(Date.now() - began < 25_000, "a heartbeat of 60 s has not passed");
  await push();
  own.thaw();
  await whole();
});

test("for await in a page, and a close that is final", async (t) => {
  const { page, user, nth, push } = await open(t);
  await nth("open");
  const got = page.evaluate(async () => {
    const got = [];
    const events = window.gate[Symbol.asyncIterator]();
    const first = events.next();
    window.iterating = true;
    try {
      got.push((await first).value.data);
      for await (const { data } of events) got.push(data);
    } catch (error) {
      got.push(error.code);
    }
    return got;
  });
  await page.waitForFunction(() => window.iterating);
  await push();
  await push();
  await nth("event", 2);
  await stage.control("disconnect", { user });
  assert.deepEqual(await got, [1, 2, 4000]);
  assert.equal(await page.evaluate(() => window.gate.state), "closed");
});
