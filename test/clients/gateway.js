// Starts gateways and connects clients to them, for the tests beside it.

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { on, once } from "node:events";
import path from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as pause } from "node:timers/promises";
import WebSocket from "ws";

const PATIENCE = 20_000; // ms for anything that is waited for

const binary = path.resolve(process.env.GATEWAY_BIN ?? "../../bin/gateway");

/** The promise, or an error that says what did not happen in time. */
async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), PATIENCE);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

/** Starts the binary, which never outlives this process. */
function start(args, settings) {
  // The gateway refuses GATEWAY_ variables that it does not know, GATEWAY_BIN
  // first of all.
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith("GATEWAY_"));
  const child = spawn(binary, args, { env: { ...Object.fromEntries(own), ...settings } });
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

/** Runs the binary to its end and returns what it prints. */
async function run(args, settings, input = "") {
  const child = start(args, settings);
  try {
    child.stdin.on("error", () => {}); // a command that reads nothing may be gone already
    child.stdin.end(input);
    const all = Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
    const [out, err, [code]] = await within(all, `the end of gateway ${args[0]}`);
    if (code !== 0) throw new Error(`gateway ${args.join(" ")} exits with ${code}: ${err}`);
    return out;
  } finally {
    child.kill("SIGKILL");
  }
}

/** The three ways to bring a token that are open to everybody. */
export const carriers = {
  header: (token) => ({ headers: { Authorization: `Bearer ${token}` } }),
  subprotocol: (token) => ({ protocols: ["pushgate.v1", `bearer.${token}`] }),
  query: (token) => ({ query: { access_token: token } }),
};

/** `gateway dev` on ports of its own. */
export class Gateway {
  log = "";
  #child;
  #settings = {
    GATEWAY_LISTEN: "127.0.0.1:0",
    GATEWAY_ADMIN_LISTEN: "127.0.0.1:0",
    GATEWAY_ADMIN_DEBUG_LISTEN: "127.0.0.1:0",
    GATEWAY_DEV_NATS_LISTEN: "127.0.0.1:0",
    GATEWAY_AUTH_HS256_SECRET: randomBytes(32).toString("hex"),
    GATEWAY_LOG_LEVEL: "debug",
  };

  static async start() {
    const gateway = new Gateway();
    try {
      await within(gateway.#greeting(), "the greeting of gateway dev");
      await within(gateway.#ready(), "a gateway that is ready");
    } catch (cause) {
      await gateway.stop();
      throw new Error(`the gateway does not start; its log:\n${gateway.log}`, { cause });
    }
    return gateway;
  }

  constructor() {
    this.#child = start(["dev"], this.#settings);
    this.#child.stdout.setEncoding("utf8");
    this.#child.stderr.setEncoding("utf8").on("data", (lines) => (this.log += lines));
    this.ended = once(this.#child, "close").then(([code, signal]) => ({ code, signal }));
    this.ended.catch(() => {}); // stop reports it
  }

  /** Reads the addresses out of what dev prints for people. */
  async #greeting() {
    let printed = "";
    for await (const part of on(this.#child.stdout, "data", { close: ["end"] })) {
      printed += part[0];
      const found = /page +http:\/\/(\S+)\/\n +NATS +(\S+)\n +metrics +(\S+)\/metrics\n/.exec(printed);
      if (found) {
        [, this.host, this.#settings.GATEWAY_NATS_URL, this.admin] = found;
        this.#child.stdout.resume(); // a full pipe would block the gateway
        return;
      }
    }
    throw new Error(`it ends after printing ${JSON.stringify(printed)}`);
  }

  async #ready() {
    while (!(await fetch(`${this.admin}/readyz`)).ok) await pause(10);
  }

  /** Asks it to drain, and waits for its end. */
  async stop() {
    this.#child.kill("SIGTERM");
    try {
      return await within(this.ended, "the end of the gateway");
    } finally {
      this.#child.kill("SIGKILL");
    }
  }

  /** Publishes bytes with `gateway pub`. */
  async publish(subject, data, ...flags) {
    await run(["pub", subject, "-", ...flags], this.#settings, data);
  }

  /** Mints a token with `gateway token`; other settings make a bad one. */
  async token(sub, settings = {}) {
    const printed = await run(["token", "--sub", sub], { ...this.#settings, ...settings });
    return printed.trim();
  }

  /** Asks the backend of the demo page. */
  async dev(request, body) {
    const options = body && {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    };
    const answer = await within(fetch(`http://${this.host}/dev/${request}`, options), request);
    if (!answer.ok) throw new Error(`/dev/${request} is answered ${answer.status}`);
    return answer.json();
  }

  #dial({ query = {}, protocols = [], headers = {} }) {
    const url = `ws://${this.host}/v1/ws?${new URLSearchParams(query)}`;
    return new WebSocket(url, protocols, { headers, handshakeTimeout: PATIENCE });
  }

  /** Opens a session, up to its first frame. */
  async open(request) {
    const client = new Client(this.#dial(request));
    await client.opened;
    client.first = await client.next();
    return client;
  }

  /** Opens a session of a user. */
  async connect(sub) {
    return this.open(carriers.subprotocol(await this.token(sub)));
  }

  /** The answer to a handshake that must fail. */
  async refused(request) {
    const ws = this.#dial(request);
    const accepted = once(ws, "open").then(() => Promise.reject(new Error("the handshake succeeds")));
    accepted.catch(() => {});
    try {
      const [, answer] = await within(
        Promise.race([once(ws, "unexpected-response"), accepted]), "a refusal");
      const body = await within(text(answer), "the refusal's body");
      return { status: answer.statusCode, headers: answer.headers, body: JSON.parse(body) };
    } finally {
      ws.on("error", () => {}); // that it never opened
      ws.terminate();
    }
  }
}

/** One WebSocket, whose frames are read one after the other. */
class Client {
  #frames;

  constructor(ws) {
    this.ws = ws;
    this.#frames = on(ws, "message", { close: ["close"] });
    this.closed = once(ws, "close").then(([code]) => code);
    this.closed.catch(() => {}); // whoever waits for it sees it
    ws.once("upgrade", (answer) => (this.answer = answer));
    this.opened = within(once(ws, "open"), "the end of the handshake");
  }

  /** The next frame as it came. */
  async raw() {
    const { value, done } = await within(this.#frames.next(), "a frame");
    if (done) throw new Error(`the session ended with ${await this.closed} where a frame was due`);
    const [data, isBinary] = value;
    if (isBinary) throw new Error("the frame is binary");
    return data.toString();
  }

  async next() {
    return JSON.parse(await this.raw());
  }

  /** Waits for the close frame and returns its code. */
  async end() {
    return within(this.closed, "the end of the session");
  }

  /** Sends a text, or an object as JSON. */
  send(message) {
    this.ws.send(typeof message === "string" ? message : JSON.stringify(message));
  }

  /** Sends a ping control frame and returns what the pong brings back. */
  async ping(payload) {
    const pong = once(this.ws, "pong");
    this.ws.ping(payload);
    const [data] = await within(pong, "a pong");
    return data.toString();
  }
}
