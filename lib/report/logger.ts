import type { LogEntry } from "./runLog.js";

/** Where in a training something was seen. */
export interface LogPlace {
  /** Counts from 0 over the whole run. */
  step: number;
  /** Counts from 0. */
  epoch: number;
}

/** A picture for a log. */
export interface LoggedPicture {
  /** A PNG file. */
  png: Uint8Array;
  /** In pixels. */
  width: number;
  height: number;
}

/** How the values of a tensor are spread: bins of equal width from the smallest to the largest one. */
export interface Histogram {
  min: number;
  max: number;
  /** How many values there are. */
  count: number;
  sum: number;
  sumOfSquares: number;
  /** Upper end of each bin; the first one begins at `min`. A bin holds what is below its end, the last one `max` too. */
  limits: number[];
  /** Values in each bin. */
  counts: number[];
}

/** What surrounds a logger. */
export interface LoggerSurroundings {
  /** The run's folder, where it has one. */
  folder: string | null;
  /** Tells the user something, such as that a server does not answer. */
  warn(message: string): void;
}

/**
 * Gets what a training tells of itself, in the first of the processes that train together. Only `log` is needed.
 *
 * What is thrown, or rejected, ends no training: it is warned of once, and but for `close` the logger hears no more. A promise is not waited for by the
 * training; the next call comes when it has settled. The objects are shared: read them, do not change them.
 *
 * @example
 * class Losses implements RunLogger {
 *   log(entry: LogEntry) {
 *     if (entry.kind === "step") console.log(entry.step, entry.loss);
 *   }
 * }
 * await pretrain({ data: "photos", out: "runs/photos", loggers: [new Losses()] });
 */
export interface RunLogger {
  /** What warnings call it. Default: the name of its class. */
  readonly name?: string;
  /** Before the first entry. */
  start?(surroundings: LoggerSurroundings): void | Promise<void>;
  /**
   * Each line of the run's log, as `log.jsonl` has it. The first one is of kind `"run"`: it has all options, and `firstStep`, above 0 in a
   * run that was resumed: what an earlier process told of that step and later ones is told again.
   */
  log(entry: LogEntry): void | Promise<void>;
  /** A picture: `"train/views"` has the views of some images of a batch. */
  images?(tag: string, picture: LoggedPicture, place: LogPlace): void | Promise<void>;
  /** `"weights/NAME"` of each weight that is trained, and `"features/encoder"` in pre-training. */
  histogram?(tag: string, histogram: Histogram, place: LogPlace): void | Promise<void>;
  /** The run is over, or failed. It is waited for, but not for ever. */
  close?(): void | Promise<void>;
}
