import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { BadImage } from "../../data/index.js";
import type { Encoder } from "../../models/index.js";
import type { Module } from "../../nn/index.js";
import { Loggers, RUN_LOG, RunLog, type EndEntry, type LogEntry, type RunEntry, type StepEntry } from "../../report/index.js";
import { packageRoot } from "../../setup/packageRoot.js";
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import type { Position } from "./checkpointFiles.js";
import type { Logging } from "./logging.js";
import type { RunFacts } from "./ownPart.js";
import { StopTime } from "./stopTime.js";
import { TensorLog } from "./tensorLog.js";

/** What a step tells about itself; the recorder adds the times. */
export type StepFacts = Omit<StepEntry, "kind" | "imagesPerSecond" | "stepMs">;

/** What a caller hears of every training. */
export interface RecorderHooks<Network> {
  onStart?(run: RunEntry, network: Network): void | Promise<void>;
  onStep?(step: StepEntry): void;
  onCheckpoint?(path: string): void;
  onBadImage?(image: BadImage): void;
  onWarning?(message: string): void;
  signal?: AbortSignal;
}

/** How a training begins. */
export interface Beginning<Network> {
  facts: RunFacts;
  /** All options, for the log; `logging`, which is no part of what the run is, is left out. */
  options: Record<string, unknown>;
  logging?: Logging;
  device: string;
  epochs: number;
  start: Position;
  resumedFrom: string | null;
  /** Unreadable images that the resumed run has told of already. */
  knownBad: number;
  network: Network;
  /** Whose features of a batch loggers may see. */
  encoder?: Encoder;
}

/** A checkpoint that is in place. */
export interface PlacedCheckpoint {
  path: string;
  /** Steps done when it was written. */
  steps: number;
  stallMs: number;
  totalMs: number;
}

/** Keeps what a training leaves behind, checkpoints and log in its folder, and tells whoever listens: the caller, and loggers. */
export abstract class TrainingRecorder<Network extends Module<never>, Hooks extends RecorderHooks<Network>> {
  /** Path of the last checkpoint written, or null. */
  checkpoint: string | null = null;
  protected stepsPerEpoch = 0;
  #log: RunLog | null = null;
  #loggers: Loggers | null = null;
  #tensorLog: TensorLog | null = null;
  #started = performance.now();
  #stepEnded = performance.now();
  #badImages = 0;
  readonly #stopTime: StopTime;

  /** @param folder of the run; null to write nothing */
  constructor(protected readonly folder: string | null, protected readonly hooks: Hooks) {
    this.#stopTime = new StopTime((message) => folder !== null && hooks.onWarning?.(message));
  }

  /** Seconds since `start`. */
  get seconds(): number {
    return (performance.now() - this.#started) / 1000;
  }

  /** Opens the log, in a folder that is there, and tells the listeners. The first step's time counts from here. */
  protected async begin(run: Beginning<Network>): Promise<void> {
    const { facts, start, device, epochs, resumedFrom, network, encoder, logging } = run;
    const { images, stepsPerEpoch } = facts;
    const { logging: _, ...options } = run.options;
    const entry: RunEntry = {
      kind: "run",
      started: new Date().toISOString(),
      options,
      versions: { "moco-v3": packageVersion(), node: process.versions.node, libtorch: torch.version().libtorch },
      device, images, epochs, stepsPerEpoch, firstStep: start.epoch * stepsPerEpoch + start.step, resumedFrom,
    };
    this.stepsPerEpoch = stepsPerEpoch;
    this.#badImages = run.knownBad;
    if (this.folder !== null) this.#log = new RunLog(join(this.folder, RUN_LOG));
    if (logging !== undefined && logging.loggers.length > 0) {
      const warn = (message: string): void => this.hooks.onWarning?.(message);
      this.#loggers = new Loggers(logging.loggers, { folder: this.folder, warn });
      this.#tensorLog = new TensorLog(this.#loggers, logging, { network, encoder, stepsPerEpoch }, warn);
    }
    this.tell(entry);
    await this.hooks.onStart?.(entry, network);
    this.#started = this.#stepEnded = performance.now();
  }

  /**
   * @param images in the step's batch
   * @param bad all images of the training that could not be read so far
   * @param views of the batch as the network got it, for loggers of pictures
   * @throws CheckpointSaveError of a checkpoint that could not be written meanwhile
   */
  step(facts: StepFacts, images: number, bad: readonly BadImage[], views: readonly Tensor[] = []): void {
    this.checkSaves();
    const now = performance.now();
    const stepMs = now - this.#stepEnded;
    this.#stepEnded = now;
    const entry: StepEntry = { kind: "step", ...facts, imagesPerSecond: (1000 * images) / stepMs, stepMs };
    this.tell(entry);
    this.hooks.onStep?.(entry);
    this.#stopTime.step(stepMs - facts.dataWaitMs);
    this.tellBad(bad.slice(this.#badImages));
    this.#badImages = bad.length;
    this.#tensorLog?.afterStep(facts, views);
  }

  /** Waits until the last checkpoint is in place. @throws CheckpointSaveError if it could not be written */
  abstract flush(): Promise<void>;

  end(reason: EndEntry["reason"], message?: string): void {
    this.tell({ kind: "end", reason, ...(message === undefined ? {} : { message }), seconds: this.seconds });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.closeSaves();
    await this.#tensorLog?.close();
    await this.#loggers?.close();
    this.#log?.close();
  }

  /** @throws CheckpointSaveError of a checkpoint that could not be written meanwhile */
  protected abstract checkSaves(): void;

  /** Waits for the checkpoint that is being written. Never throws. */
  protected abstract closeSaves(): Promise<void>;

  /** Writes to the log, and to the loggers. */
  protected tell(entry: LogEntry): void {
    this.#log?.write(entry);
    this.#loggers?.log(entry);
  }

  protected tellBad(images: readonly BadImage[]): void {
    for (const image of images) {
      this.tell({ kind: "badImage", path: image.name, reason: image.reason });
      this.hooks.onBadImage?.(image);
    }
  }

  protected tellSaved({ path, steps, stallMs, totalMs }: PlacedCheckpoint): void {
    this.checkpoint = path;
    this.tell({ kind: "checkpoint", file: basename(path), steps, stallMs, totalMs });
    this.hooks.onCheckpoint?.(path);
    this.#stopTime.saved(totalMs);
  }

  /** What the log tells up to here becomes as safe from a power cut as the checkpoint: a run that goes on from it does not tell it again. */
  protected async syncLog(): Promise<void> {
    await this.#log?.sync();
  }

  /** What went on until now is no part of the next step's time. */
  protected leaveOutTime(): void {
    this.#stepEnded = performance.now();
  }
}

/** Of this package. */
function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as { version: string };
  return version;
}
