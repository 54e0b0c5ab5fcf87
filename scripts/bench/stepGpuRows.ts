import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { BenchmarkResult } from "./result.js";
import type { Machine } from "./stepGpuProtocol.js";
import type { Row } from "./stepGpuRow.js";

/**
 * Rows that have been measured, in a file each, so that a long benchmark may be done in parts: what is there is not measured again, and a run
 * that breaks off loses no row. Rows of different GPUs lie in different folders.
 */
export class KeptRows {
  readonly folder: string;

  constructor(root: string, { gpu }: Machine) {
    this.folder = join(root, gpu.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, ""));
    mkdirSync(this.folder, { recursive: true });
  }

  /** The row of a network and batch, empty where there is none. */
  get(arch: string, batch: number): Row {
    const file = this.#file(arch, batch);
    return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Row) : {};
  }

  set(arch: string, batch: number, row: Row): void {
    replace(this.#file(arch, batch), row);
  }

  /** The result so far, as in benchmarks/results: a run that is cut off leaves it. */
  setResult(result: BenchmarkResult): void {
    replace(join(this.folder, `${result.name}.json`), result);
  }

  /** All rows, by network and rising batch. */
  all(): { arch: string; batch: number; row: Row }[] {
    const rows = readdirSync(this.folder).flatMap((file) => {
      const match = /^(.+)_(\d+)\.json$/.exec(file);
      return match ? [{ arch: match[1]!, batch: Number(match[2]) }] : [];
    });
    rows.sort((a, b) => a.arch.localeCompare(b.arch) || a.batch - b.batch);
    return rows.map(({ arch, batch }) => ({ arch, batch, row: this.get(arch, batch) }));
  }

  #file(arch: string, batch: number): string {
    return join(this.folder, `${arch}_${batch}.json`);
  }
}

function replace(file: string, content: unknown): void {
  writeFileSync(`${file}.new`, `${JSON.stringify(content, null, 2)}\n`);
  renameSync(`${file}.new`, file);
}
