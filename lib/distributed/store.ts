import { setTimeout as pause } from "node:timers/promises";
import { native } from "../native.js";
import { RendezvousError } from "./errors.js";

/** How often waiting looks again. */
const LOOK_AGAIN_MS = 20;

/** Where a {@link Store} is, and who serves it. */
export interface StoreOptions {
  host: string;
  /** 0, where it is served here: any port that is free; see {@link Store.port}. */
  port: number;
  /** Serve it from this process, as one of its clients. It ends with the process, or when it is closed. */
  serve?: boolean;
  /** How long to try to reach it. Default: 5 minutes. */
  timeoutMs?: number;
}

/**
 * Keys and values that several processes share over the network (c10d's TCPStore): how they find each other before there is anything faster.
 *
 * `get`, `add` and `delete` hold the thread for one round trip.
 */
export class Store {
  readonly host: string;
  readonly port: number;
  #handle: number | null;

  private constructor(host: string, port: number, handle: number) {
    this.host = host;
    this.port = port;
    this.#handle = handle;
  }

  /**
   * Reaches a store, or serves it.
   *
   * @throws {RendezvousError} where nobody serves it within the timeout, or the port is taken
   * @example const store = await Store.connect({ host: "node0", port: 29500, serve: rank === 0 });
   */
  static async connect({ host, port, serve = false, timeoutMs = 300_000 }: StoreOptions): Promise<Store> {
    const began = Date.now();
    try {
      const [handle, bound] = await native.openStore(host, port, serve, timeoutMs);
      return new Store(host, bound, handle);
    } catch (error) {
      throw explain(error as Error, host, port, serve, Date.now() - began);
    }
  }

  /** The same store, where all keys begin with `prefix`; closed by itself. */
  under(prefix: string): Store {
    return new Store(this.host, this.port, native.prefixStore(this.handle(), prefix));
  }

  /** Returns at once: another process may look before the value is there, and {@link wait} for it. This one's next call finds it. */
  set(key: string, value: string): void {
    native.storeSet(this.handle(), key, value);
  }

  /** The value, or null where there is none yet. */
  get(key: string): string | null {
    return native.storeGet(this.handle(), key);
  }

  /** Adds to a number, 0 at first, and answers the sum: each caller gets another one. */
  add(key: string, amount: number): number {
    return native.storeAdd(this.handle(), key, amount);
  }

  /** Whether the key was there. */
  delete(key: string): boolean {
    return native.storeDelete(this.handle(), key);
  }

  /**
   * Resolves once all keys have values.
   *
   * @throws {RendezvousError} that lists the keys without one
   */
  async wait(keys: readonly string[], timeoutMs: number): Promise<void> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const missing = keys.filter((key) => this.get(key) === null);
      if (missing.length === 0) return;
      if (Date.now() >= end) {
        throw new RendezvousError(`after ${timeoutMs / 1000} s the store at ${this.host}:${this.port} has no ${missing.join(", ")}`, []);
      }
      await pause(Math.min(LOOK_AGAIN_MS, Math.max(1, end - Date.now())));
    }
  }

  /** Number in the addon's table. Internal. */
  handle(): number {
    if (this.#handle === null) throw new Error("the store is closed; connect to it again");
    return this.#handle;
  }

  /** Leaves the store, and stops it where it is served here. A group that uses it keeps it. Calling it again does nothing. */
  close(): void {
    if (this.#handle !== null) native.closeStore(this.#handle);
    this.#handle = null;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function explain(error: Error, host: string, port: number, serve: boolean, elapsedMs: number): RendezvousError {
  if (/EADDRINUSE/.test(error.message)) {
    return new RendezvousError(
      `port ${port} of this machine, on which the ranks are to meet, is taken by another program: ` +
        "choose another one, the same for all ranks, or end what an earlier run left behind",
      [], { cause: error },
    );
  }
  if (/EACCES|EPERM/.test(error.message)) {
    return new RendezvousError(`this user may not serve port ${port}: choose one from 1024 on`, [], { cause: error });
  }
  const tried = `${host}:${port}, where the ranks are to meet, could not be ${serve ? "served" : "reached"} within ${(elapsedMs / 1000).toFixed(1)} s`;
  return new RendezvousError(
    `${tried}. Check that rank 0 runs there, that all ranks have the same address and port, and that no firewall is between them ` +
      `(${error.message.split("\n")[0]})`,
    [], { cause: error },
  );
}
