import type { Request } from "./http.js";
import { parser } from "./sse.js";
import type { Options } from "./types.js";

/** Who listens to a line. Behind `end`, or the line's own `close`, nothing comes. */
export interface Ear {
  /** `name` is its type where it says none itself. */
  frame(text: string, name?: string): void;
  /** A sign of life that is no frame, perhaps with a cursor. */
  beat(cursor?: string): void;
  end(code: number, reason: string): void;
}

/** One connection, on which frames come. */
export interface Line {
  /** Only a WebSocket takes messages. */
  send?(message: object): void;
  close(): void;
}

/** Opens a WebSocket. The token travels as a subprotocol: browsers can set no header. */
export function openWebSocket(Socket: NonNullable<Options["WebSocket"]>, url: string, token: string, ear: Ear): Line {
  const socket = new Socket(url.replace(/^http/, "ws"), ["pushgate.v1", `bearer.${token}`]);
  socket.onmessage = ({ data }) => ear.frame(data);
  socket.onclose = ({ code, reason }) => ear.end(code, reason);
  socket.onerror = () => {}; // onclose says it, and ws throws without
  return {
    send: (message) => socket.send(JSON.stringify(message)),
    close() {
      // Where the network is gone, the closing handshake takes a minute.
      socket.onmessage = socket.onclose = null;
      socket.close(1000);
    },
  };
}

/** Opens an event stream, by fetch: an EventSource cannot bring a token. */
export function openStream(request: Request, url: string, ear: Ear): Line {
  const control = new AbortController();
  const { signal } = control;
  const feed = parser((event, data, id) => {
    if (signal.aborted) return;
    if (data) ear.frame(data, event);
    else ear.beat(id);
  });
  const read = async () => {
    const { status, headers, body } = await request(url, "text/event-stream", signal);
    if (!/^text\/event-stream/i.test(headers.get("content-type")!)) throw status; // a refusal, or a proxy's page
    const reader = body!.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw "ended";
      ear.beat();
      feed(decoder.decode(value, { stream: true }));
    }
  };
  read().catch((error) => {
    if (!signal.aborted) ear.end(1006, `${error}`);
    control.abort();
  });
  return { close: () => control.abort() };
}
