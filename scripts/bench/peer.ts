import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";
import { childEnvironment } from "../../lib/config.js";
import { BenchmarkError } from "./benchmarkError.js";
import { processMemory } from "./processMemory.js";
import { torchFolder, type BenchmarkOptions } from "./result.js";

export { BenchmarkError };

/**
 * One side of a comparison: a process that does one measurement for each line on its standard input and answers with a line of JSON. Both
 * sides stay alive while measurements alternate, so that a machine's slow minute falls on both.
 */
export class Peer {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #reader: Interface;
  #stderr = "";

  constructor(
    readonly name: string,
    command: string,
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ) {
    this.#process = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], env: childEnvironment(env) });
    this.#process.on("error", (error) => (this.#stderr += error.message));
    this.#process.stderr?.on("data", (text: Buffer) => (this.#stderr = (this.#stderr + text.toString()).slice(-4000)));
    this.#process.stdin?.on("error", () => undefined); // its end shows in the answer that does not come
    this.#reader = createInterface({ input: this.#process.stdout as NodeJS.ReadableStream });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  /** The answer to a request. Lines that are not JSON are passed over. */
  async ask<T>(request: string): Promise<T> {
    this.#process.stdin?.write(`${request}\n`);
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw new BenchmarkError(`${this.name} ended before it answered "${request}":\n${this.#stderr}`);
      if (value.startsWith("{")) return JSON.parse(value) as T;
    }
  }

  /** Largest resident size so far, in bytes (Linux). */
  peakMemory(): number {
    return processMemory(this.#process.pid!).peak;
  }

  close(): void {
    this.#reader.close();
    this.#process.kill();
  }
}

/** How one side of a comparison is started. */
export interface PeerStart {
  /** What follows the program's name on its command line. */
  args?: readonly string[];
  /** Threads of one operator. */
  threads: number;
  /** The only core that the process may use (with `taskset`); without it, all of them. */
  core?: number | null;
}

type Starter = (how: PeerStart) => Peer;

/**
 * What starts the two sides of a benchmark: `peers/NAME.js` in Node.js and `peers/NAME.py` in Python, both on that Python's libtorch.
 *
 * @param peer what the Python side is called
 * @param program our side's program, where several benchmarks share one
 */
export function peersOf<Name extends string>(
  benchmark: string, peer: Name, { python }: Pick<BenchmarkOptions, "python">, program = benchmark,
): Record<"ours" | Name, Starter> {
  const libtorch = torchFolder(python);
  const starter = (name: string, program: readonly string[]): Starter => ({ args = [], threads, core = null }) => {
    const pinning = core === null ? [] : ["taskset", "--cpu-list", String(core)];
    const [command, ...words] = [...pinning, ...program, ...args] as [string, ...string[]];
    return new Peer(name, command, words, { LIBTORCH: libtorch, OMP_NUM_THREADS: String(threads) });
  };
  const ours = fileURLToPath(new URL(`./peers/${program}.js`, import.meta.url));
  const theirs = fileURLToPath(new URL(`../../../scripts/bench/peers/${benchmark}.py`, import.meta.url));
  return { ours: starter("ours", [process.execPath, ours]), [peer]: starter(peer, [python, theirs]) } as Record<"ours" | Name, Starter>;
}

/** The core that one-core measurements share, or null where processes cannot be kept to one. Not the first: it often serves interrupts. */
export function coreForOne(): number | null {
  try {
    execFileSync("taskset", ["--version"], { stdio: "ignore" });
    const allowed = /Cpus_allowed_list:\s+(\S+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
    const last = /\d+$/.exec(allowed ?? "")?.[0];
    return last === undefined ? null : Number(last);
  } catch {
    return null;
  }
}
