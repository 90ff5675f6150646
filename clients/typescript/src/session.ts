import { onClose } from "./decide.js";
import { poll, type Ending, type Page, type Request } from "./http.js";
import { openStream, openWebSocket, type Ear, type Line } from "./line.js";
import type { Frame, Options, Transport } from "./types.js";

/** Whom a session serves. */
export interface Host {
  /** The URL for a path, with what the session wants; `wait` is a poll's. */
  address(path: string, wait?: string): string;
  /** There is a session. */
  open(welcome: Frame): void;
  frame(frame: Frame): void;
  page(page: Page): void;
}

/** One attempt to connect, and the session that it becomes. It ends once. */
export interface Session {
  readonly ended: Promise<Ending>;
  /** When it became a session. */
  opened?: number;
  /** Whatever the cause: from here on nothing comes. */
  end(ending: Ending): void;
  /** False where no message can be sent: not yet, or not by this transport. */
  send(message: object): boolean;
  /** A timer of the session; a second one of a name replaces the first. */
  later(name: string, ms: number, then: () => void): void;
  /** Looks whether the other side is still there, which it has to show in this time. */
  check(ms: number): unknown;
}

const silent: Ending = { action: "back_off", code: 1006, reason: "silent" };

export function startSession(transport: Transport, options: Options, token: string, request: Request, host: Host): Session {
  const control = new AbortController();
  const { timeout = 15_000 } = options;
  const timers: Record<string, ReturnType<typeof setTimeout>> = {};
  let line: Line | undefined;
  let signs = 0; // of life
  let period = 0; // in which one has to come, in ms
  let drain: number | undefined;
  let settle: (ending: Ending) => void;

  const session: Session = {
    ended: new Promise((resolve) => (settle = resolve)),
    end(ending) {
      Object.values(timers).forEach(clearTimeout);
      line?.close();
      line = undefined;
      control.abort();
      settle(ending);
    },
    send(message) {
      const send = session.opened && line?.send;
      if (send) send(message);
      return !!send;
    },
    later(name, ms, then) {
      clearTimeout(timers[name]);
      if (!control.signal.aborted) timers[name] = setTimeout(then, ms);
    },
    check: (ms) => period && line?.send && expect(ms),
  };

  /**
   * Something must come in this time, and from then on in each period. On a
   * WebSocket a page does not see the gateway's pings, so it sends its own; the
   * answer keeps the cursor young, too.
   */
  function expect(ms: number): void {
    const before = signs;
    session.send({ type: "ping" });
    session.later("expect", ms, () => (signs === before ? session.end(silent) : expect(period)));
  }

  function open(welcome: Frame): void {
    session.opened = Date.now();
    clearTimeout(timers.open);
    period = welcome.heartbeat * (line?.send ? 400 : 1000);
    if (period) expect(period);
    host.open(welcome);
  }

  async function connect(): Promise<Ending> {
    const ending = await new Promise<Ending>((resolve) => {
      const ear: Ear = {
        frame(text, name) {
          signs++;
          let frame: Frame;
          try {
            frame = JSON.parse(text);
            frame.type ??= name!;
          } catch {
            return ear.end(1006, "unusable");
          }
          drain = frame.reconnect_after_ms ?? drain;
          if (frame.type === "close") ear.end(frame.code, frame.reason);
          else if (frame.type === "welcome") open(frame);
          else host.frame(frame);
        },
        beat(cursor) {
          signs++;
          if (cursor) host.frame({ type: "pong", cursor });
        },
        end(code, reason) {
          line?.close(); // several frames may come at once: behind one that is lost none counts
          resolve({ action: onClose(code), code, reason, drain });
        },
      };
      session.later("open", timeout, () => ear.end(1006, "silent"));
      try {
        if (transport === "sse") line = openStream(request, host.address("/v1/events"), ear);
        else line = openWebSocket(options.WebSocket!, host.address("/v1/ws"), token, ear);
      } catch {
        ear.end(1006, "unusable"); // the error itself may quote the token
      }
    });
    if (session.opened || (ending.code as number) >= 4000) return ending;
    // It never was a session, and a WebSocket cannot say why: the same is asked
    // by a plain request. If that succeeds, something in between is the reason.
    return (await ask(0)) ?? { ...ending, action: "fall_back" };
  }

  /** One poll, whose events it hands on; or why there are none. */
  async function ask(wait: number): Promise<Ending | undefined> {
    const { signal } = control;
    session.later("poll", wait * 1000 + timeout, () => session.end(silent));
    const page = await poll(request, host.address("/v1/events", `${wait}s`), signal);
    if ("action" in page) return page;
    if (signal.aborted) return;
    if (transport === "poll" && !session.opened) open({ type: "welcome" });
    host.page(page);
  }

  async function polls(): Promise<Ending> {
    for (let wait = 0; ; wait = 25) {
      const ending = await ask(wait);
      if (ending) return ending;
      if (Date.now() - session.opened! > content) return again; // a better transport may work by now
    }
  }

  (transport === "poll" ? polls() : connect()).catch(() => silent).then(session.end);
  return session;
}

/** How long a client is content with a transport that is not its first choice, in ms. */
export const content = 300_000;

/** An ending behind which the client goes on at once. */
export const again: Ending = { action: "reconnect", code: 1000, reason: "", drain: 0 };
