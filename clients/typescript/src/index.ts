export { Pushgate } from "./pushgate.js";
export { PushgateError } from "./types.js";
export type { Options, Past, PushEvent, PushgateEvents, State, Token, Transport, WebSocketLike } from "./types.js";
export type { Target, Told } from "./target.js";
