import { closeSync, fdatasync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { promisify } from "node:util";

/** Name of the log in a run's folder. */
export const RUN_LOG = "log.jsonl";

/** First line of a log, and once more whenever a run is resumed: what was asked for, and with what it runs. */
export interface RunEntry {
  kind: "run";
  /** ISO 8601. */
  started: string;
  /** Every option, defaults filled in. */
  options: Record<string, unknown>;
  versions: Record<string, string>;
  device: string;
  images: number;
  epochs: number;
  stepsPerEpoch: number;
  /** First step that follows; above 0 in a run that was resumed. */
  firstStep: number;
  /** Checkpoint that the run went on from. */
  resumedFrom: string | null;
}

/** Norms of gradients by layer, from the images to the loss. */
export interface LayerNorms {
  /** A ViT's patch projection or convolutional stem, a ResNet's first convolution; null where it is frozen. */
  stem: number | null;
  /** A ViT's blocks, or those of a ResNet's stages. */
  blocks: number[];
  projector: number | null;
  predictor: number | null;
}

/** How query and key features of a step compare; means over both contrasts. */
export interface ContrastSignals {
  /** Queries whose own key is the nearest of all, in percent. */
  accuracy: number;
  /** Mean cosine of queries and their own keys. */
  positive: number;
  /** Mean cosine of queries and all other keys. */
  negative: number;
  /** Standard deviation of the queries' coordinates over 1/√dim: 1 where they lie all around, 0 where all are the same (collapse). */
  querySpread: number;
  /** The same of the keys. */
  keySpread: number;
  /** Loss over that of guessing, 2·2τ·ln(keys). */
  lossOverChance: number;
}

/** What a step of pre-training tells about its stability; docs/stability.md says what is usual. */
export interface StepSignals {
  /** Before clipping. Absent, as the ratios are, in a float16 step that was passed over. */
  gradients?: LayerNorms;
  /** The stem's norm over the median of the blocks'. Absent where the stem is frozen. */
  stemRatio?: number;
  /** The first block's norm over the median of the blocks'. */
  firstBlockRatio?: number;
  contrast?: ContrastSignals;
  /** Distance of the encoders' parameters over the length of the base encoder's; in every tenth step. */
  encoderDistance?: number;
  /** What is unusual, in a few words each. */
  alerts?: string[];
}

export interface StepEntry {
  kind: "step";
  /** Counts from 0 over the whole run. */
  step: number;
  /** Counts from 0. */
  epoch: number;
  stepInEpoch: number;
  loss: number;
  lr: number;
  /** Of the momentum encoder, in pre-training. */
  momentum?: number;
  /** Share of the batch whose class was found, in percent, in training with labels. */
  acc1?: number;
  /** Euclidean norm of all gradients; null in a float16 step that was passed over because one overflowed. */
  gradientNorm: number | null;
  /** The step's images over its time, the wait for data included. */
  imagesPerSecond: number;
  /** Time that the step waited for its images. */
  dataWaitMs: number;
  /** Time from the end of the step before to the end of this one. */
  stepMs: number;
  /** The gradient scaler's scale; 1 but in float16 training. */
  scale: number;
  /** In pre-training that is watched. */
  signals?: StepSignals;
  /** Where a spike was answered otherwise than by a warning. */
  action?: "skipped" | "rolled-back";
}

/** Something looks wrong in a training; it goes on all the same. */
export interface WarningEntry {
  kind: "warning";
  step: number;
  /** One word for the kind of trouble, such as `"collapse"`. */
  what: string;
  message: string;
}

/** An image that could not be read and was left out. */
export interface BadImageEntry {
  kind: "badImage";
  path: string;
  reason: string;
}

export interface CheckpointEntry {
  kind: "checkpoint";
  /** File name in the run's folder. */
  file: string;
  /** Steps done when it was written. */
  steps: number;
  /** Milliseconds that the training was held up by it. */
  stallMs: number;
  /** Milliseconds until it was safe on the disk. */
  totalMs: number;
}

/** How well a classifier did on images that it was not trained on. */
export interface EvaluationEntry {
  kind: "evaluation";
  /** The epoch after which it was evaluated, counted from 0. */
  epoch: number;
  /** Percent of the images whose class is the likeliest one. */
  acc1: number;
  /** Percent of the images whose class is among the five likeliest. */
  acc5: number;
  /** Mean cross entropy. */
  loss: number;
  /** Images that could be read. */
  images: number;
  /** Whether `acc1` is higher than after every epoch before. */
  best: boolean;
  /** The same figures of the moving average of the weights, where there is one. */
  average?: { acc1: number; acc5: number; loss: number };
}

/** How the encoder did after an epoch, judged by the nearest neighbours of labelled images. */
export interface KnnEntry {
  kind: "knn";
  /** The epoch after which it was judged, counted from 0. */
  epoch: number;
  /** Neighbours that vote. */
  k: number;
  /** Percent of the images whose class wins the vote. */
  acc1: number;
  /** Percent of the images whose class is among the first five of the vote. */
  acc5: number;
  /** Images among which neighbours are looked for. */
  gallery: number;
  /** Images that are judged. */
  queries: number;
  /** Whether these are the same, each left out of its own neighbours. */
  leaveOneOut: boolean;
  seconds: number;
}

export interface EndEntry {
  kind: "end";
  reason: "finished" | "stop-after" | "interrupted" | "failed";
  message?: string;
  seconds: number;
}

/** A line of a run's log; `kind` tells which. */
export type LogEntry = RunEntry | StepEntry | BadImageEntry | CheckpointEntry | EvaluationEntry | KnnEntry | WarningEntry | EndEntry;

/** A log that cannot be read. */
export class RunLogError extends Error {
  override readonly name = "RunLogError";
}

/**
 * Writes a run's log, one JSON object a line. Each line is on its way to the disk before `write` returns, so a run that dies leaves a log
 * up to its last step; a machine that loses power, one up to the last `sync`, and of what follows whatever the disk has got.
 */
export class RunLog {
  readonly #file: number;

  /** Opens the log at `path`, to add to what it has. */
  constructor(readonly path: string) {
    this.#file = openSync(path, "a+");
    // A run that was killed in the middle of a line must not swallow the next one.
    const { size } = fstatSync(this.#file);
    // Only its last byte is looked at: the log of a long run may be larger than what can be read at once (2 GiB).
    const last = Buffer.alloc(1);
    if (size > 0 && readSync(this.#file, last, 0, 1, size - 1) === 1 && last[0] !== 0x0a) writeSync(this.#file, "\n");
  }

  write(entry: LogEntry): void {
    writeSync(this.#file, `${JSON.stringify(entry)}\n`);
  }

  /** Makes what was written so far survive a power cut. */
  async sync(): Promise<void> {
    await promisify(fdatasync)(this.#file);
  }

  close(): void {
    closeSync(this.#file);
  }
}
