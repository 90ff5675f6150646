/** What a client does about an ending. */
export type Action = "reconnect" | "back_off" | "new_token" | "fall_back" | "stop";

/** What a close code means, unknown ones by their range. */
export function onClose(code: number): Action {
  const range = Math.trunc(code / 100);
  if (range === 40 || [1002, 1003, 1007, 1008, 1009].includes(code)) return "stop";
  if (range === 42) return "new_token";
  return code === 1000 || code === 1001 ? "reconnect" : "back_off";
}

/** What the status of an HTTP answer means that is no session. */
export function onStatus(status: number): Action {
  if (status === 401) return "new_token";
  if (status === 426 || status === 501) return "fall_back";
  return status < 400 || status > 499 || status === 408 || status === 429 ? "back_off" : "stop";
}

/**
 * How long to wait before an attempt, counted from 0, in milliseconds: anything
 * up to a bound that doubles, so that clients do not come back together.
 * `drain` is the gateway's own word, `retryAfter` the header's seconds, which
 * is the least; but no timer takes more than 2^31 - 1.
 */
export function delay(attempt: number, drain?: number, retryAfter?: number): number {
  return Math.min(2e9, drain ?? (retryAfter || 0) * 1000 + Math.random() * Math.min(20_000, 500 * 2 ** attempt));
}
