import { closeSync, existsSync, fstatSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readSync, renameSync, statSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import type { LoggerSurroundings, RunLogger } from "./logger.js";
import type { LogEntry, RunEntry } from "./runLog.js";
import { scalarsOf, scalarTags } from "./scalars.js";

/** A table cannot be written, or continued. */
export class CsvLogError extends Error {
  override readonly name = "CsvLogError";
}

/** Options of {@link CsvLogger}. */
export interface CsvLoggerOptions {
  /** Default: `log.csv` in the run's folder. */
  file?: string;
}

/** The same in every run, so that tables can be joined. */
const columns = ["step", "epoch", ...scalarTags, "action", "alerts"] as const;
const header = `${columns.join(",")}\n`;

/**
 * Writes the numbers of a run as a table (RFC 4180): a line for each step, and one of its own for each judgement by kNN and each evaluation,
 * with the number of the epoch's last step. What an entry does not have stays empty. Norms of single blocks are in `log.jsonl` only.
 *
 * A run that is resumed cuts the table before the step where it goes on. A run that begins anew leaves an earlier table as `NAME.1`, `NAME.2`.
 *
 * @example
 * await pretrain({ data: "photos", out: "runs/photos", loggers: [new CsvLogger()] }); // runs/photos/log.csv
 */
export class CsvLogger implements RunLogger {
  readonly name = "the CSV log";
  #path: string | null;
  #file: number | null = null;
  #stepsPerEpoch = 1;

  constructor({ file }: CsvLoggerOptions = {}) {
    this.#path = file ?? null;
  }

  start({ folder }: LoggerSurroundings): void {
    if (this.#path === null && folder === null) throw new CsvLogError("the run has no folder, so its table needs a name: give a file, or the run a folder");
    this.#path ??= join(folder!, "log.csv");
  }

  log(entry: LogEntry): void {
    if (entry.kind === "run") return this.#open(entry);
    if (this.#file === null) return;
    const found = scalarsOf(entry, this.#stepsPerEpoch);
    if (found === null) return;
    const values = new Map<string, string | number>(found.scalars.map(({ tag, value }) => [tag, value]));
    values.set("step", found.step).set("epoch", found.epoch);
    if (entry.kind === "step") values.set("action", entry.action ?? "").set("alerts", (entry.signals?.alerts ?? []).join("; "));
    this.#write(`${columns.map((column) => quoted(String(values.get(column) ?? ""))).join(",")}\n`);
  }

  close(): void {
    if (this.#file !== null) closeSync(this.#file);
    this.#file = null;
  }

  #open({ firstStep, stepsPerEpoch }: RunEntry): void {
    const path = this.#path!;
    this.close();
    this.#stepsPerEpoch = stepsPerEpoch;
    mkdirSync(dirname(path), { recursive: true });
    if (firstStep === 0 && (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > header.length) renameSync(path, freeName(path));
    this.#file = openSync(path, "a+");
    // A pipe or a terminal has nothing to go on from.
    if (!fstatSync(this.#file).isFile()) return this.#write(header);
    const end = endOfRowsBefore(this.#file, firstStep, path);
    // One call of the system: after a crash the table has the later rows, or it does not, and the next resumption cuts them again.
    ftruncateSync(this.#file, end);
    fsyncSync(this.#file);
    if (end === 0) this.#write(header);
  }

  #write(line: string): void {
    const bytes = Buffer.from(line);
    for (let done = 0; done < bytes.length;) done += writeSync(this.#file!, bytes, done);
  }
}

/**
 * Where in the file the rows of steps before `firstStep` end; 0 for an empty one. Rows are in the order of steps, and a last one that was
 * cut off has no line feed.
 */
function endOfRowsBefore(file: number, firstStep: number, path: string): number {
  const chunk = Buffer.alloc(1 << 20);
  let end = 0;
  let rest = Buffer.alloc(0);
  let first = true;
  for (let position = 0; ;) {
    const count = readSync(file, chunk, 0, chunk.length, position);
    if (count === 0) break;
    position += count;
    const bytes = Buffer.concat([rest, chunk.subarray(0, count)]);
    let begin = 0;
    for (let feed = bytes.indexOf(10); feed >= 0; feed = bytes.indexOf(10, begin)) {
      const line = bytes.toString("utf8", begin, feed + 1);
      if (first && line !== header) throw otherTable(path);
      if (!first && !(Number.parseInt(line) < firstStep)) return end;
      first = false;
      end += feed + 1 - begin;
      begin = feed + 1;
    }
    rest = Buffer.from(bytes.subarray(begin));
  }
  if (first && !header.startsWith(rest.toString())) throw otherTable(path);
  return end;
}

function otherTable(path: string): CsvLogError {
  return new CsvLogError(`${path} holds another table, whose first line is not this log's; move it away, or give another file`);
}

function freeName(path: string): string {
  for (let i = 1; ; i++) if (!existsSync(`${path}.${i}`)) return `${path}.${i}`;
}

/** A field of a line; line breaks become spaces, so that each line is a row. */
function quoted(text: string): string {
  const line = text.replaceAll(/[\r\n]+/g, " ");
  return /[",]/.test(line) ? `"${line.replaceAll('"', '""')}"` : line;
}
