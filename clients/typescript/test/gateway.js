// The real gateway for the tests beside it: one that holds NATS and is never
// touched, and those before it, which are killed, drained and started anew.

import { spawn } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { connect } from "@nats-io/transport-node";

export const patience = 60_000; // ms for anything that is waited for

const binary = path.resolve(process.env.GATEWAY_BIN ?? "../../bin/gateway");

/** The promise's value, or an error that says what did not happen in time. */
export async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), patience);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Waits until a condition holds, and returns what it is. */
export async function until(condition, what) {
  const end = Date.now() + patience;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await pause(10);
  }
}

export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

const secret = randomBytes(32).toString("hex");

/** A token of a user, which expires in so many seconds. */
export function token(sub, { ttl = 3600, ...claims } = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub, iat: now, exp: now + ttl, jti: randomBytes(6).toString("hex"), ...claims })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

/** One gateway process on a port of its own, which it keeps over restarts. */
export class Gateway {
  log = "";
  #child;

  constructor(command, settings = {}) {
    this.command = command;
    this.settings = {
      GATEWAY_ADMIN_LISTEN: "127.0.0.1:0",
      GATEWAY_ADMIN_DEBUG_LISTEN: "127.0.0.1:0",
      GATEWAY_AUTH_HS256_SECRET: secret,
      GATEWAY_AUTH_LEEWAY: "0s",
      GATEWAY_AUTH_ORIGINS: "*",
      GATEWAY_DRAIN_DELAY: "0s",
      GATEWAY_DRAIN_WINDOW: "100ms",
      ...settings,
    };
  }

  get url() {
    return `http://${this.settings.GATEWAY_LISTEN}`;
  }

  async start() {
    this.settings.GATEWAY_LISTEN ??= `127.0.0.1:${await freePort()}`;
    // The gateway refuses GATEWAY_ variables that it does not know.
    const own = Object.entries(process.env).filter(([name]) => !name.startsWith("GATEWAY_"));
    const child = spawn(binary, [this.command], { env: { ...Object.fromEntries(own), ...this.settings } });
    this.#child = child;
    children.add(child);
    child.stdout.resume();
    child.stderr.setEncoding("utf8").on("data", (lines) => (this.log += lines));
    child.ended = once(child, "close").finally(() => children.delete(child));
    await until(async () => {
      if (child.exitCode !== null) throw new Error(`gateway ${this.command} does not start:\n${this.log}`);
      // It answers 401 once it serves.
      return fetch(`${this.url}/v1/events`).then((answer) => answer.status === 401, () => false);
    }, "a gateway that answers");
    return this;
  }

  /** Takes it away without a word. */
  async kill() {
    this.#child.kill("SIGKILL");
    await within(this.#child.ended, "the end of a killed gateway");
  }

  /** Has it drain, and waits for its end. */
  async drain() {
    this.#child.kill("SIGTERM");
    await within(this.#child.ended, "the end of a draining gateway");
  }

  /** Freezes it, as an overloaded machine does. */
  async freeze() {
    this.#child.kill("SIGSTOP");
    const stat = `/proc/${this.#child.pid}/stat`;
    if (existsSync(stat)) await until(() => /\) T /.test(readFileSync(stat, "utf8")), "a process that stands still");
  }

  thaw() {
    this.#child.kill("SIGCONT");
  }
}

/** NATS with a stream, and a connection to publish on. */
export async function startStage() {
  const nats = `127.0.0.1:${await freePort()}`;
  const keeper = await new Gateway("dev", { GATEWAY_DEV_NATS_LISTEN: nats }).start();
  const connection = await connect({ servers: nats });
  return {
    nats: connection,
    /** A gateway of production's kind on the same NATS. */
    gateway: (settings = {}) =>
      new Gateway("serve", { GATEWAY_NATS_URL: `nats://${nats}`, GATEWAY_DURABLE_STREAM: "PUSH", ...settings }).start(),
    /** Publishes, and returns when it is stored. */
    async push(subject, data) {
      await connection.request(`push.${subject}`, JSON.stringify(data), { timeout: patience });
    },
    async control(verb, body) {
      await connection.request(`pushgate.control.${verb}`, JSON.stringify(body), { timeout: patience });
    },
    async stop() {
      await connection.close();
      await keeper.kill();
    },
  };
}
