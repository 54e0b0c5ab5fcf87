import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { RUN_LOG, RunLogError, type LogEntry } from "./runLog.js";

const chunkBytes = 1 << 20;
const headBytes = 256;
/** A line is about a kilobyte; a file without line ends is no log, and must not fill the memory. */
const longestLine = 16 << 20;

/**
 * Reads a run's log piece by piece, whatever its size, and later what has come since. A line that was cut off is left out, as what a power
 * cut left of lines is; so are lines that are no entries.
 */
export class LogTail {
  #offset = 0;
  /** How the file begins: with the time when the run was started, which tells it from another in its place. */
  #head = Buffer.alloc(0);
  #rest = Buffer.alloc(0);
  #lines = 0;
  /** A line that is not JSON: the next one tells whether that is a fault. */
  #broken: string | null = null;

  constructor(readonly path: string) {}

  /** Whether the file is another one than was read so far, so that reading has to begin anew. */
  isReplaced(): boolean {
    let file: number;
    try {
      file = openSync(this.path, "r");
    } catch {
      return false; // gone for now; what was read stays
    }
    try {
      const head = Buffer.alloc(this.#head.length);
      return fstatSync(file).size < this.#offset || readSync(file, head, 0, head.length, 0) < head.length || !head.equals(this.#head);
    } finally {
      closeSync(file);
    }
  }

  /**
   * What has come since the last call, about a megabyte of text at a time.
   *
   * @throws RunLogError when the file cannot be read, or has a line inside that is not JSON
   */
  *read(): Generator<LogEntry[]> {
    let file: number;
    try {
      file = openSync(this.path, "r");
    } catch (error) {
      throw this.#unreadable(error);
    }
    try {
      const chunk = Buffer.allocUnsafe(chunkBytes);
      for (;;) {
        const length = this.#readInto(file, chunk);
        if (length === 0) return;
        this.#offset += length;
        const read = chunk.subarray(0, length);
        if (this.#head.length < headBytes) this.#head = Buffer.concat([this.#head, read.subarray(0, headBytes - this.#head.length)]);
        const end = read.lastIndexOf(0x0a) + 1;
        if (end > 0) yield this.#parse(Buffer.concat([this.#rest, read.subarray(0, end)]).toString("utf8", 0, this.#rest.length + end - 1));
        this.#rest = end > 0 ? Buffer.from(read.subarray(end)) : Buffer.concat([this.#rest, read]);
        if (this.#rest.length > longestLine) {
          throw new RunLogError(`${this.path}, line ${this.#lines + 1} is longer than 16 MiB; give the ${RUN_LOG} that a training wrote`);
        }
      }
    } finally {
      closeSync(file);
    }
  }

  /** The last line, where it is whole but for its end. */
  last(): LogEntry[] {
    const entry = parse(this.#rest.toString());
    return entry === null ? [] : [entry];
  }

  #readInto(file: number, chunk: Buffer): number {
    try {
      return readSync(file, chunk, 0, chunk.length, this.#offset);
    } catch (error) {
      throw this.#unreadable(error);
    }
  }

  #unreadable(error: unknown): RunLogError {
    return new RunLogError(`${this.path} cannot be read: ${(error as Error).message}; give the ${RUN_LOG} of a run's folder`, { cause: error });
  }

  #parse(text: string): LogEntry[] {
    const entries: LogEntry[] = [];
    for (const line of text.split("\n")) {
      this.#lines++;
      // A line before one that a resumed run began anew may be cut.
      if (this.#broken !== null && !line.startsWith('{"kind":"run"')) throw new RunLogError(this.#broken);
      this.#broken = null;
      if (line.trim() === "") continue;
      try {
        const entry = entryOf(JSON.parse(line));
        if (entry !== null) entries.push(entry);
      } catch (error) {
        // After a power cut, what was not synced may be zeros.
        if (line.includes("\0")) continue;
        this.#broken = `${this.path}, line ${this.#lines} is not JSON (${(error as Error).message}); delete the line to read the rest`;
      }
    }
    return entries;
  }
}

function parse(line: string): LogEntry | null {
  try {
    return entryOf(JSON.parse(line));
  } catch {
    return null;
  }
}

function entryOf(value: unknown): LogEntry | null {
  return typeof value === "object" && value !== null && "kind" in value ? (value as LogEntry) : null;
}
