import type { Readable, Writable } from "node:stream";
import { createInterface } from "node:readline";

/** Copies a process's output line by line, each with a prefix, so that lines of several processes do not mix. Resolves at its end. */
export function prefixLines(from: Readable, prefix: string, to: Writable): Promise<void> {
  const lines = createInterface({ input: from, crlfDelay: Infinity });
  lines.on("line", (line) => to.write(`${prefix}${line}\n`));
  return new Promise((resolve) => lines.on("close", resolve));
}
