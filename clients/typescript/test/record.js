import { until } from "./gateway.js";

/** Writes down what a client tells. */
export class Record {
  told = [];

  constructor(gate) {
    this.gate = gate;
    for (const type of ["event", "open", "close", "incomplete", "resumed", "subscribed", "unsubscribed", "renewed", "error", "drain", "pong", "dropped"]) {
      gate.addEventListener(type, ({ detail }) => this.told.push({ type, detail }));
    }
  }

  all(type) {
    return this.told.filter((one) => one.type === type).map((one) => one.detail);
  }

  get data() {
    return this.all("event").map((event) => event.data);
  }

  /** Waits for the n-th of a type, and returns it. */
  async nth(type, n = 1) {
    const found = () => this.all(type)[n - 1];
    try {
      return await until(found, `${type} number ${n}`);
    } catch (error) {
      error.message += `; told: ${JSON.stringify(this.told)}`;
      throw error;
    }
  }

  /** Waits for the end of the n-th session: attempts that fail tell a `close`, too. */
  async ended(n = 1) {
    await this.nth("open", n);
    const found = () => {
      const opens = this.told.flatMap(({ type }, at) => (type === "open" ? [at] : []));
      return this.told.slice(opens[n - 1]).find(({ type }) => type === "close")?.detail;
    };
    return until(found, `the end of session ${n}`);
  }

  /** Waits until so many events are there. */
  async events(n) {
    if (n) await this.nth("event", n);
    return this.data;
  }
}
