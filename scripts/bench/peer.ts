import { spawn, type ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface, type Interface } from "node:readline";
import { childEnvironment } from "../../lib/config.js";

/** A measured program failed or could not be started. */
export class BenchmarkError extends Error {
  override readonly name = "BenchmarkError";
}

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
    const status = readFileSync(`/proc/${this.#process.pid}/status`, "utf8");
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? NaN) * 1024;
  }

  close(): void {
    this.#reader.close();
    this.#process.kill();
  }
}
