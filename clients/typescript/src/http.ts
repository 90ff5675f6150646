import { onStatus, type Action } from "./decide.js";
import type { PushEvent } from "./types.js";

/** How a session, or an attempt at one, ended. */
export interface Ending {
  action: Action;
  code: number | string;
  reason: string;
  /** Milliseconds, where the gateway named them. */
  drain?: number;
  /** Seconds, of the header. */
  retryAfter?: number;
}

/** One answer to a poll. */
export interface Page {
  events: PushEvent[];
  cursor: string;
  complete: boolean;
}

/** A request to `/v1/events`. */
export type Request = (url: string, accept: string, signal?: AbortSignal) => Promise<Response>;

/** One poll: events, or why there are none. */
export async function poll(request: Request, url: string, signal?: AbortSignal): Promise<Page | Ending> {
  try {
    const answer = await request(url, "application/json", signal);
    const { status, headers } = answer;
    const body = await answer.json().catch(() => ({})); // a proxy's page is no JSON
    if (status === 200 && body.events) return body;
    return { action: onStatus(status), code: body.error ?? status, reason: body.message ?? "", retryAfter: +headers.get("retry-after")! };
  } catch (error) {
    return { action: "back_off", code: "network", reason: `${error}` };
  }
}
