// What stands between a client and the gateway: a network that can be cut, and
// a proxy that gets in the way as proxies do.

import { once } from "node:events";
import { Agent, createServer, request } from "node:http";
import { connect } from "node:net";

export class Proxy {
  refusesUpgrade = false; // a proxy that knows no WebSocket
  buffersStreams = false; // one that waits for the end of each answer
  requests = []; // the paths
  #cut = false;
  #sockets = new Set();
  #server = createServer((incoming, answer) => this.#forward(incoming, answer));

  constructor(target) {
    this.target = new URL(target);
  }

  async listen() {
    this.#server.on("connection", (socket) => this.#keep(socket));
    this.#server.on("upgrade", (incoming, socket, head) => this.#upgrade(incoming, socket, head));
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.url = `http://127.0.0.1:${this.#server.address().port}`;
    return this;
  }

  /** The network goes: what is open breaks, and nothing new opens. */
  cut() {
    this.#cut = true;
    this.#sockets.forEach((socket) => socket.destroy());
  }

  restore() {
    this.#cut = false;
  }

  close() {
    this.cut();
    this.#server.close();
  }

  #keep(socket) {
    if (this.#cut) return socket.destroy();
    this.#sockets.add(socket);
    socket.on("error", () => {}).once("close", () => this.#sockets.delete(socket));
  }

  #upgrade(incoming, socket, head) {
    this.requests.push(incoming.url);
    if (this.refusesUpgrade) {
      socket.end("HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 9\r\nConnection: close\r\n\r\nForbidden");
      return;
    }
    const upstream = connect(this.target.port, this.target.hostname);
    this.#keep(upstream);
    const lines = [];
    for (let i = 0; i < incoming.rawHeaders.length; i += 2) lines.push(`${incoming.rawHeaders[i]}: ${incoming.rawHeaders[i + 1]}`);
    upstream.write(`GET ${incoming.url} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
    upstream.write(head);
    socket.pipe(upstream).pipe(socket);
    socket.once("close", () => upstream.destroy());
    upstream.once("close", () => socket.destroy());
  }

  #forward(incoming, answer) {
    this.requests.push(incoming.url);
    const { host, port } = this.target;
    const upstream = request(
      { host: this.target.hostname, port, path: incoming.url, method: incoming.method, headers: { ...incoming.headers, host }, agent: new Agent() },
      (from) => {
        answer.writeHead(from.statusCode, from.headers);
        from.once("close", () => from.complete || answer.destroy());
        if (this.buffersStreams && /event-stream/.test(from.headers["content-type"])) return; // until its end, which does not come
        from.pipe(answer);
      },
    );
    upstream.once("socket", (socket) => this.#keep(socket));
    upstream.on("error", () => answer.destroy());
    answer.once("close", () => upstream.destroy());
    incoming.pipe(upstream);
  }
}
