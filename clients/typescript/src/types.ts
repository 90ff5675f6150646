/** How events come. */
export type Transport = "websocket" | "sse" | "poll";

/** `connecting`, `open`, `waiting` before the next attempt, `closed` for good. */
export type State = "connecting" | "open" | "waiting" | "closed";

/** One event, as the gateway sends it. */
export interface PushEvent<T = any> {
  readonly type: "event";
  /** Without the root that it was published under: `user.alice`. */
  readonly subject: string;
  /** The publisher's `Nats-Msg-Id`, or `ce-id`. */
  readonly id?: string;
  /** Its place in the stream; only on stored events. */
  readonly cursor?: string;
  /** RFC 3339: when it was stored, else when the gateway got it. */
  readonly time: string;
  readonly data?: T;
  /** In place of `data`: a payload that is not UTF-8, in base64. */
  readonly data_base64?: string;
  /** `ce-type`, the other CloudEvents attributes, and `traceparent`. */
  readonly event?: string;
  readonly attributes?: Readonly<Record<string, string>>;
  readonly trace?: string;
  /** The past of a subject, as `subscribe` asked for it. */
  readonly replay?: true;
}

/** The token, or whoever has a new one each time. */
export type Token = string | (() => string | null | undefined | Promise<string | null | undefined>);

/** What the client uses of a WebSocket: that of a browser, of Node, of `ws`. */
export interface WebSocketLike {
  send(data: string): void;
  close(code?: number, reason?: string): void;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
}

export interface Options {
  /** A JWT, or a function that is asked for one at the start and whenever the last is about to expire, or is refused. */
  token: Token;
  /** Subjects, or patterns, beyond those that come with the token. */
  subjects?: Iterable<string>;
  /** Where to go on: what `cursor` was, before the app was closed. */
  cursor?: string;
  /** The device's name, for acknowledgements that outlast the session. */
  device?: string;
  /** Those to be used, best first. Default: `["websocket", "sse", "poll"]`. */
  transports?: readonly Transport[];
  /** Default: the global one. Node before 22 has none: pass that of `ws`. */
  WebSocket?: new (url: string, protocols?: string[]) => WebSocketLike;
  /** Default: the global one. */
  fetch?: typeof fetch;
  /** Milliseconds in which a connection must become a session. Default: 15,000. */
  timeout?: number;
  /** Events that may wait for one `for await`. Default: 100,000. */
  queue?: number;
}

/** What `subscribe` may ask for of the past: at most one of them. */
export interface Past {
  /** The newest stored event of each matching subject, or all. */
  from?: "last" | "start";
  /** All behind this place. */
  cursor?: string;
}

/** What listeners are told, by type: the `detail`. */
export interface PushgateEvents<T = any> {
  /** An event. */
  event: PushEvent<T>;
  /** There is a session. By long polling only the transport is known. */
  open: { transport: Transport; session?: string; user?: string; subjects?: string[]; expires?: string };
  /** A session, or an attempt, ended. `retry`: milliseconds until the next one; without it there is none. */
  close: { code: number | string; reason: string; retry?: number };
  /** Events may be missing: the app must load its state anew, that of `subject` or all. */
  incomplete: { subject?: string };
  /** A replay is through: of a `subscribe` with a past, or of everything. */
  resumed: { complete: boolean; replayed: number; subject?: string };
  /** A subject comes from now on. */
  subscribed: { subject: string };
  /** A subject comes no more: so the app asked, or the token does not grant it. */
  unsubscribed: { subject: string };
  /** The token was renewed within the session. */
  renewed: { expires: string; subjects: string[] };
  /** A policy dropped events of a subject. */
  dropped: { subject: string; count: number };
  /** The gateway is about to leave; the client goes to another. */
  drain: { reconnect_after_ms: number };
  /** A sign of life, with the client's place in the stream. */
  pong: { cursor?: string };
  /** Something failed, and the client goes on. */
  error: PushgateError;
}

/** Why something failed. */
export class PushgateError extends Error {
  constructor(
    /** A code of the gateway (`forbidden`, `needs_stream`), a close code, or `token`, `network`, `overflow`, `transports`. */
    readonly code: number | string,
    message: string,
  ) {
    super(message);
  }
}

/** A frame of the gateway, or an answer's part of one. */
export interface Frame {
  type: string;
  [member: string]: any;
}
