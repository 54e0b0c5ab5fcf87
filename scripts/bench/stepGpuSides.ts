import { BenchmarkError, peersOf, type Peer } from "./peer.js";
import type { BenchmarkOptions } from "./result.js";
import type { Ask, GpuRequest, Side } from "./stepGpuProtocol.js";

/** Answers come within so many seconds, or the side is given up. */
const PATIENCE = 240;

/** Sides that share a process, and so hold one training after the other. */
const processOf: Readonly<Record<Side, string>> = {
  ours: "ours", oursOtherPrecision: "ours", oursDeterministic: "ours", oursNchw: "ours", oursGraph: "oursGraph", upstream: "upstream",
  tuned: "tuned", compiled: "tuned", tunedNchw: "tuned",
};

/** The processes of the benchmark's sides, each started when it is first asked, and anew after it failed. */
export class Sides implements Disposable {
  readonly #peers = new Map<string, Peer>();
  readonly #start: ReturnType<typeof peersOf<"python">>;

  constructor(private readonly options: BenchmarkOptions, private readonly device: string) {
    this.#start = peersOf("step-gpu", "python", options);
  }

  readonly ask: Ask = async <T>(side: Side, request: GpuRequest, secondsAtMost = PATIENCE): Promise<T> => {
    const name = processOf[side];
    const peer = this.#peers.get(name) ?? this.#begin(name);
    let timer: NodeJS.Timeout | undefined;
    const tooLong = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new BenchmarkError(`${side} took more than ${secondsAtMost} s to ${request.do}`)), secondsAtMost * 1000);
    });
    try {
      return await Promise.race([peer.ask<T>(JSON.stringify(request)), tooLong]);
    } catch (error) {
      peer.close();
      this.#peers.delete(name);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  };

  #begin(name: string): Peer {
    const { threads, upstream = "" } = this.options;
    const settings = JSON.stringify({ side: name, upstream, device: this.device });
    const start = name.startsWith("ours") ? this.#start.ours : this.#start.python;
    const peer = start({ args: [settings], threads });
    this.#peers.set(name, peer);
    return peer;
  }

  [Symbol.dispose](): void {
    for (const peer of this.#peers.values()) peer.close();
    this.#peers.clear();
  }
}
