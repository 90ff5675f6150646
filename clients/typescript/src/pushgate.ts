import { isNewer } from "./cursor.js";
import { delay } from "./decide.js";
import { poll, type Ending, type Page, type Request } from "./http.js";
import { again, content, startSession, type Session } from "./session.js";
import { Base, makeEvent, type Target } from "./target.js";
import { PushgateError, type Frame, type Options, type Past, type PushEvent, type PushgateEvents, type State, type Transport } from "./types.js";

/** A subject that the app asked for. */
interface Sub {
  subject: string;
  /** What is still to come of its past. */
  past?: Past;
  /** Of the `subscribe` in this session. */
  ref?: string;
  /** The connection's URL names it, so it comes with the session. */
  named?: boolean;
  done(error?: PushgateError): void;
}

/** A session shorter than this is no success: the next attempts go on backing off. */
const steady = 5_000;
/** What a gateway takes in one message, unless it is configured otherwise. */
const messageBytes = 4096;

/** A client of a gateway, or of a fleet behind one address. */
export class Pushgate<T = any> extends Base implements AsyncIterable<PushEvent<T>> {
  #url: string;
  #options: Options;
  #request: Request;
  #transports: Transport[];
  #takers = new Set<(event?: PushEvent<T>) => void>();
  #subs = new Map<string, Sub>();
  #off = new Set<string>(); // subjects of the token that the app does not want
  #acked?: string; // not yet sent
  #refs = 0;

  #state: State = "connecting";
  #error?: PushgateError; // that it ended with; 1000 is the app's own end
  #cursor?: string;
  #gap = false; // events may have come while there was neither session nor cursor
  #token?: string | null;
  #refused?: string | null; // the last one that was
  #expires = Infinity;

  #session?: Session;
  #replays: Sub[] = []; // under way in this session, in the gateway's order
  #at = 0; // the transport's place in the list
  #until = 0; // when the first one is tried again
  #worked?: Transport;
  #tries = 0; // since the last steady session
  #refusals = 0; // of tokens, since the last session
  #control = new AbortController(); // of what a browser tells
  #go?: () => void; // ends the wait for the next attempt
  #timer?: ReturnType<typeof setTimeout>; // of that wait

  constructor(url: string, options: Options) {
    super();
    const { location, ReadableStream, TextDecoder, WebSocket } = globalThis;
    this.#url = new URL(url, location?.href).href.replace(/^ws/, "http").replace(/\/+$/, "");
    this.#options = { WebSocket, ...options };
    this.#request = (to, accept, signal) =>
      (options.fetch ?? fetch)(to, { headers: { Accept: accept, Authorization: `Bearer ${this.#token}` }, cache: "no-store", signal });
    this.#cursor = options.cursor;
    // React Native may be unable to read an answer as it comes.
    const can = { websocket: this.#options.WebSocket, sse: ReadableStream && TextDecoder, poll: true };
    this.#transports = (options.transports ?? ["websocket", "sse", "poll"]).filter((t) => can[t]);
    if (!this.#transports[0]) throw new PushgateError("transports", "none works here");
    for (const subject of options.subjects ?? []) this.subscribe(subject);
    this.#live();
  }

  get state(): State {
    return this.#state;
  }

  get transport(): Transport {
    return this.#transports[this.#at]!;
  }

  /** Everything up to here is there. Kept by the app, it is where its next client goes on. */
  get cursor(): string | undefined {
    return this.#cursor;
  }

  /**
   * Adds a subject, now or as soon as there is a session, and keeps it over
   * reconnects. Rejects where the gateway does not grant it.
   */
  subscribe(subject: string, { from, cursor }: Past = {}): Promise<void> {
    const subscribed = new Promise<void>((resolve, reject) => {
      if (this.#error) return reject(this.#error);
      const past = from || cursor ? { from, cursor } : undefined;
      const sub: Sub = { subject, past, done: (error) => (error ? reject(error) : resolve()) };
      this.#subs.get(subject)?.done();
      this.#subs.set(subject, sub);
      this.#off.delete(subject);
      if (!this.#ask(sub) && this.transport !== "websocket") this.#session?.end(again);
    });
    subscribed.catch(() => {}); // the event `unsubscribed` tells it, too: nobody has to wait for this
    return subscribed;
  }

  /** Removes a subject, also one that came with the token. */
  unsubscribe(subject: string): void {
    const sub = this.#subs.get(subject);
    this.#subs.delete(subject);
    sub?.done();
    if (!sub) this.#off.add(subject);
    if (!this.#leave(subject) && sub) this.#session?.end(again);
  }

  /** Tells the backend that the app has everything up to a place. Only a WebSocket takes it: else it is sent later. */
  ack(cursor: string | undefined = this.#cursor): void {
    this.#acked = this.#session?.send({ type: "ack", cursor }) ? undefined : cursor;
  }

  /** Looks at once whether the connection lives, or connects: for the moment when an app comes to the foreground. */
  wake(): void {
    this.#tries = 0;
    this.#go?.();
    this.#session?.check(steady);
  }

  /** Ends the session, and the client. */
  close(): void {
    this.#shut(again);
  }

  /** The events from now on, until the client ends. Throws when it does so by itself. */
  async *[Symbol.asyncIterator](): AsyncGenerator<PushEvent<T>, void, undefined> {
    const queue: PushEvent<T>[] = [];
    let go = () => {};
    const take = (event?: PushEvent<T>) => {
      // An app that never catches up is told so, and its memory is not filled.
      if (event && queue.push(event) >= (this.#options.queue ?? 100_000)) this.#takers.delete(take);
      go();
    };
    this.#takers.add(take);
    try {
      for (;;) {
        if (queue.length) yield queue.shift()!;
        else if (this.#error?.code === 1000) return;
        else if (this.#error) throw this.#error;
        else if (!this.#takers.has(take)) throw new PushgateError("overflow", "too slow");
        else await new Promise<void>((wake) => (go = wake));
      }
    } finally {
      this.#takers.delete(take);
    }
  }

  /** One attempt behind the other, until one is the last. */
  async #live(): Promise<void> {
    const { signal } = this.#control;
    const look = () => {
      if (globalThis.document?.hidden) return;
      this.#until = 0; // it may be another network, without the proxy
      this.wake();
    };
    for (const type of ["online", "offline", "visibilitychange"]) globalThis.addEventListener?.(type, look, { signal });
    await null; // whoever makes a client begins to listen now
    while (!this.#error) {
      if (Date.now() > this.#until) this.#at = 0;
      this.#state = "connecting";
      const ending = await this.#attempt();
      const wait = await this.#judge(ending);
      this.#session = undefined;
      if (this.#error) return;
      if (wait === undefined) return this.#shut(ending);
      this.#state = "waiting";
      this.#tell("close", { code: ending.code, reason: ending.reason, retry: wait });
      await new Promise<void>((go) => {
        this.#timer = setTimeout(go, wait);
        if (!ending.retryAfter) this.#go = go; // else who was told how long to wait waits
      });
    }
  }

  /** Gets a token where there is none, connects, and stays for as long as it lasts. */
  async #attempt(): Promise<Ending> {
    const { token } = this.#options;
    try {
      if (typeof token === "string") this.#token = token;
      else if (!this.#token || Date.now() > this.#expires) {
        this.#expires = Infinity;
        this.#token = await token();
      }
    } catch (error) {
      return { action: "back_off", code: "token", reason: `${error}` };
    }
    if (!this.#token || this.#token === this.#refused) return { action: "stop", code: "token", reason: "no new token" };
    if (this.#error) return again;
    this.#replays = [];
    this.#session = startSession(this.transport, this.#options, this.#token, this.#request, {
      address: (path, wait) => this.#address(path, wait),
      open: (welcome) => this.#open(welcome),
      frame: (frame) => this.#frame(frame),
      page: (page) => this.#page(page),
    });
    return this.#session.ended;
  }

  /** How long to wait behind an ending; undefined is for ever. */
  async #judge({ action, code, drain, retryAfter }: Ending): Promise<number | undefined> {
    const { opened } = this.#session ?? {};
    if (opened) {
      this.#refusals = 0;
      this.#gap ||= !this.#cursor;
      if (Date.now() - opened > steady) this.#tries = 0;
    }
    if (action === "stop" && !(code === "forbidden" && (await this.#weed()))) return;
    if (action === "new_token") {
      this.#refused = this.#token;
      this.#token = undefined;
      if (!opened && this.#refusals++) return;
      if (!this.#tries++) return 0;
    }
    if (action === "fall_back") {
      if (this.#worked === this.transport) this.#worked = undefined; // once more: the gateway may have been away
      else if (this.#transports[this.#at + 1]) {
        this.#at++;
        this.#until = Date.now() + content;
        return 0;
      } else this.#until = 0;
    }
    return delay(this.#tries++, drain, retryAfter);
  }

  /** One refused subject refuses the whole connection: finds those, and goes on without them. */
  async #weed(): Promise<boolean> {
    const { size } = this.#subs;
    for (const subject of this.#subs.keys()) {
      const { code, reason } = (await poll(this.#request, this.#address("/v1/events", "0s", subject))) as Ending;
      if (code === "forbidden") this.#drop(subject, code, reason);
    }
    return this.#subs.size < size;
  }

  #drop(subject: string, code: number | string, reason: string): void {
    this.#subs.get(subject)?.done(new PushgateError(code, reason));
    this.#subs.delete(subject);
    this.#tell("unsubscribed", { subject });
  }

  #address(path: string, wait?: string, only?: string): string {
    const query = new URLSearchParams();
    const add = (name: string, value?: string) => value && query.append(name, value);
    for (const [subject, sub] of this.#subs) {
      // One with a past is asked for within the session, where that is possible.
      sub.named = this.transport !== "websocket" || !sub.past;
      if (only ? subject === only : sub.named) add("subject", subject);
    }
    add("cursor", this.#cursor);
    add("device", this.#options.device);
    add("wait", wait);
    return `${this.#url}${path}?${query}`;
  }

  #open(welcome: Frame): void {
    const { cursor, expires } = welcome;
    this.#state = "open";
    this.#worked = this.transport;
    this.#cursor ??= cursor;
    if (expires) this.#renewBefore(expires);
    this.#off.forEach((subject) => this.#leave(subject));
    if (this.#acked) this.ack(this.#acked);
    const lost: (string | undefined)[] = this.#gap ? [undefined] : [];
    this.#gap = false;
    for (const sub of this.#subs.values()) {
      if (!sub.named) this.#ask(sub);
      else {
        if (sub.past) lost.push(sub.subject); // one subject's past comes by WebSocket only
        sub.past = undefined;
        sub.done();
      }
    }
    this.#tell("open", { ...welcome, transport: this.transport });
    lost.forEach((subject) => this.#tell("incomplete", { subject }));
  }

  #ask(sub: Sub): boolean | undefined {
    sub.ref = `${++this.#refs}`;
    return this.#session?.send({ type: "subscribe", ref: sub.ref, subject: sub.subject, ...sub.past });
  }

  #leave(subject: string): boolean | undefined {
    return this.#session?.send({ type: "unsubscribe", ref: `${++this.#refs}`, subject });
  }

  #frame(frame: Frame): void {
    const { type, ref, cursor, complete } = frame;
    const sub = [...this.#subs.values()].find((sub) => ref && sub.ref === ref);
    const { subject } = sub ?? frame;
    switch (type) {
      case "event":
        return this.#event(frame as PushEvent<T>);
      case "error":
        if (sub) this.#drop(subject, frame.code, frame.message);
        else this.#tell("error", new PushgateError(frame.code, frame.message));
        return;
      case "subscribed":
        if (sub?.past) this.#replays.push(sub);
        sub?.done();
        break;
      case "unsubscribed":
        if (!ref) this.#subs.delete(subject);
        this.#replays = this.#replays.filter((other) => other.subject !== subject);
        break;
      case "renewed":
        this.#renewBefore(frame.expires);
        break;
      case "resumed":
        if (sub) sub.past = undefined;
        this.#replays = this.#replays.filter((other) => other !== sub);
        if (!complete) this.#tell("incomplete", { subject });
        break;
      case "pong":
      case "drain":
      case "dropped":
        break;
      default:
        return;
    }
    // Behind what is lost, the place may also be an earlier one.
    this.#move(cursor, complete === false && !ref);
    this.#tell(type, { ...frame, subject } as any);
  }

  #page({ events, cursor, complete }: Page): void {
    if (!complete) this.#cursor = undefined; // nothing is known of what came before
    events.forEach((event) => this.#event(event as PushEvent<T>));
    this.#move(cursor);
    if (!complete) this.#tell("incomplete", {});
  }

  #event(event: PushEvent<T>): void {
    const { cursor, replay, subject } = event;
    const [sub] = this.#replays;
    if (replay) {
      if (sub) sub.past = { cursor }; // if the session ends now, the replay goes on here in the next
    } else if (cursor) {
      if (!isNewer(cursor, this.#cursor)) return;
      this.#cursor = cursor;
    }
    if (this.#off.has(subject)) return;
    this.#takers.forEach((take) => take(event));
    this.#tell("event", event);
  }

  #move(cursor?: string, anyhow?: boolean): void {
    if (cursor && (anyhow || isNewer(cursor, this.#cursor))) this.#cursor = cursor;
  }

  /** Has the token renewed when most of its time is over. A clock that is wrong costs a reconnect, no more. */
  #renewBefore(expires: string): void {
    this.#expires = Date.parse(expires);
    const left = this.#expires - Date.now();
    if (typeof this.#options.token !== "function") return;
    const ms = left > 0 ? Math.max(1000, left * (0.75 + Math.random() * 0.15)) : 30_000;
    this.#session!.later("renew", Math.min(ms, 2e9), () => this.#renew(expires));
  }

  async #renew(expires: string): Promise<void> {
    const session = this.#session!;
    let token;
    try {
      token = await (this.#options.token as () => Promise<string>)();
    } catch (error) {
      this.#tell("error", new PushgateError("token", `${error}`));
    }
    if (session !== this.#session) return;
    this.#renewBefore(expires); // in case nothing comes of it
    if (!token || token === this.#token) return;
    this.#token = token;
    // Only a WebSocket takes it, if it is not too long; else it is for the next session.
    if (token.length > messageBytes - 64 || !session.send({ type: "renew", ref: "renew", token })) session.end(again);
  }

  #tell<K extends keyof PushgateEvents>(type: K, detail: PushgateEvents[K]): void {
    this.dispatchEvent(makeEvent(type, detail));
  }

  #shut({ code, reason }: Ending): void {
    if (this.#error) return;
    this.#state = "closed";
    this.#control.abort();
    clearTimeout(this.#timer);
    this.#session?.end(again);
    const error = (this.#error = new PushgateError(code, reason || "closed"));
    this.#subs.forEach((sub) => sub.done(error));
    this.#takers.forEach((take) => take());
    this.#tell("close", { code, reason });
  }
}

export interface Pushgate<T = any> extends Target<PushgateEvents<T>> {}
