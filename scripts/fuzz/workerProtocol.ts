import type { Tally } from "./tally.js";

/** A range of inputs to run. */
export interface Batch {
  readonly from: number;
  readonly count: number;
}

export interface WorkerFinding {
  readonly index: number;
  readonly fault: string;
}

export interface BatchReport {
  readonly tally: Tally;
  readonly findings: readonly WorkerFinding[];
  /** Largest rise of resident memory, as a share of what one of the inputs may take. */
  readonly memoryRatio: number;
}

/** Bytes that a record of progress takes: the number of the input, as a double. */
export const PROGRESS_BYTES = 8;
