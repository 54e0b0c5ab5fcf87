import { statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { LogTail } from "../logTail.js";
import { RUN_LOG, RunLogError } from "../runLog.js";
import { RunHistory } from "./runHistory.js";
import type { ShownRun } from "./runParts.js";

/** A run's folder, its log, and what has been read of it. */
export class FollowedRun {
  readonly path: string;
  history = new RunHistory();
  /** Why the log cannot be read any further; until it is another one. */
  problem: string | null = null;
  /** Goes up whenever what was known no longer holds. */
  #replaced = 0;
  #tail: LogTail;

  /** @param run a run's folder, or its log */
  constructor(readonly run: string) {
    this.path = statSync(run, { throwIfNoEntry: false })?.isFile() === true ? run : join(run, RUN_LOG);
    this.#tail = new LogTail(this.path);
  }

  get folder(): string {
    return dirname(this.path);
  }

  /** Changes whenever steps that were read before are no longer the run's. */
  get generation(): string {
    return `${this.#replaced}.${this.history.generation}.${this.history.latest === null ? "" : "begun"}`;
  }

  /** When the log was last written to, in milliseconds; null where there is none. */
  get writtenAt(): number | null {
    return statSync(this.path, { throwIfNoEntry: false })?.mtimeMs ?? null;
  }

  /** As a report shows it. */
  shown(name: string): ShownRun {
    const { folder, history, writtenAt, problem } = this;
    return { name, folder, history, writtenAt, problem };
  }

  /**
   * Reads what has come, and lets others have their turn in between.
   *
   * @returns whether there is a log that has begun
   * @throws RunLogError when the log cannot be read or is none
   */
  async refresh(): Promise<boolean> {
    if (this.writtenAt === null) return this.history.latest !== null;
    if (this.#tail.isReplaced()) {
      this.#tail = new LogTail(this.path);
      this.history = new RunHistory();
      this.problem = null;
      this.#replaced++;
    }
    if (this.problem !== null) return true;
    try {
      for (const entries of this.#tail.read()) {
        for (const entry of entries) this.history.add(entry);
        await new Promise(setImmediate);
      }
    } catch (error) {
      this.problem = (error as Error).message;
      throw error;
    }
    return this.history.latest !== null;
  }

  /**
   * Reads the whole log of a run that is no longer waited for.
   *
   * @throws RunLogError when there is no log, or none that has begun
   */
  async readAll(): Promise<void> {
    if (this.writtenAt === null) {
      throw new RunLogError(`${this.path} is not there; give the folder of a training, or --serve to wait until it begins`);
    }
    if (!(await this.refresh())) {
      throw new RunLogError(`${this.path} has no line that begins a run; give the ${RUN_LOG} that a training wrote, or --serve to wait for it`);
    }
    for (const entry of this.#tail.last()) this.history.add(entry);
  }
}

/** Short names of runs, each another: the folder's, or as much of its path as tells them apart. */
export function runNames(runs: readonly { folder: string }[]): string[] {
  const folders = runs.map(({ folder }) => resolve(folder));
  return folders.map((folder, i) => {
    let name = basename(folder);
    let rest = dirname(folder);
    const others = folders.filter((_, j) => j !== i);
    while (basename(rest) !== "" && others.some((other) => other !== folder && other.endsWith(`/${name}`))) {
      name = `${basename(rest)}/${name}`;
      rest = dirname(rest);
    }
    const twins = folders.slice(0, i).filter((other) => other === folder).length;
    return twins === 0 ? name : `${name} (${twins + 1})`;
  });
}
