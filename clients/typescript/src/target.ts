type Listener<E> = ((event: E) => void) | { handleEvent(event: E): void };

/** An event as listeners get it: what happened is in `detail`. */
export interface Told<K, D> {
  readonly type: K;
  readonly detail: D;
}

/** EventTarget, with the types of what it tells. */
export interface Target<M> {
  addEventListener<K extends keyof M & string>(
    type: K,
    listener: Listener<Told<K, M[K]>> | null,
    options?: boolean | { once?: boolean; signal?: AbortSignal; passive?: boolean; capture?: boolean },
  ): void;
  removeEventListener<K extends keyof M & string>(
    type: K,
    listener: Listener<Told<K, M[K]>> | null,
    options?: boolean | { capture?: boolean },
  ): void;
}

declare const PLAIN: boolean; // set by scripts/build.js

/** What an EventTarget does, in its plainest form: React Native may have none. */
class Plain {
  #listeners = new Map<string, Map<Listener<any>, boolean>>();

  addEventListener(type: string, listener: Listener<any>, options?: { once?: boolean }) {
    const all = this.#listeners.get(type) ?? new Map();
    this.#listeners.set(type, all.set(listener, options?.once));
  }

  removeEventListener(type: string, listener: Listener<any>) {
    this.#listeners.get(type)?.delete(listener);
  }

  dispatchEvent(event: { type: string }) {
    for (const [listener, once] of [...(this.#listeners.get(event.type) ?? [])]) {
      if (once) this.removeEventListener(event.type, listener);
      try {
        if (typeof listener === "function") listener.call(this, event);
        else listener.handleEvent(event);
      } catch (error) {
        setTimeout(() => { throw error; }); // the others still hear it
      }
    }
  }
}

export const Base = (PLAIN ? Plain : EventTarget) as unknown as new () => { dispatchEvent(event: any): unknown };

export function makeEvent(type: string, detail: unknown): { type: string } {
  return PLAIN ? ({ type, detail } as { type: string }) : new CustomEvent(type, { detail });
}
