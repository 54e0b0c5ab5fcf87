import { basename, join } from "node:path";
import type { BadImage } from "../../data/index.js";
import { RUN_LOG, RunLog, type EndEntry, type EvaluationEntry, type RunEntry, type StepEntry } from "../../report/index.js";
import type { Module } from "../../nn/index.js";
import * as torch from "../../torch/index.js";
import type { Position } from "./checkpointFiles.js";
import type { Evaluation } from "../evaluateClassifier.js";
import { packageVersion, type StepFacts } from "./runRecorder.js";
import { StopTime } from "./stopTime.js";
import { SupervisedFolder, type SupervisedSave } from "./supervisedFolder.js";
import { supervisedStateValue, type SupervisedLayout, type SupervisedStateValue, type SupervisedTrainee } from "./supervisedState.js";
import type { RunFacts } from "./ownPart.js";

/** What a caller hears, and can say, while a training with labels runs. */
export interface SupervisedHooks {
  /** Before the first step: what the run is, and the network as it starts. Awaited. */
  onStart?(run: RunEntry, model: Module): void | Promise<void>;
  onStep?(step: StepEntry): void;
  /** After each batch of an evaluation: how many of the images are done. */
  onEvaluationBatch?(done: number, images: number): void;
  onEvaluation?(evaluation: EvaluationEntry): void;
  onCheckpoint?(path: string): void;
  /** An image could not be read and was left out; told once. */
  onBadImage?(image: BadImage): void;
  /** Something will not go as the options suggest. */
  onWarning?(message: string): void;
  /** Once aborted, the run finishes its step, saves and returns. */
  signal?: AbortSignal;
}

/** How a training with labels begins. */
export interface SupervisedStart {
  facts: RunFacts;
  /** All options, for the log. */
  options: Record<string, unknown>;
  device: string;
  epochs: number;
  start: Position;
  resumedFrom: string | null;
  /** Highest acc@1 of the run that is resumed. */
  bestAcc1: number;
  /** Unreadable images of the training part that the resumed run has told of already. */
  knownBad: number;
  /** Names of the classes, in the order of the classifier's outputs. */
  classes: readonly string[];
  /** Write checkpoints while the training goes on. */
  background: boolean;
  /** Default `"upstream"`. */
  layout?: SupervisedLayout;
  /** Further entries of every checkpoint, such as a gradient scaler's state. */
  further?(): Record<string, unknown>;
}

/** Keeps what a training with labels leaves behind, checkpoints and log in its folder, and tells whoever listens. */
export class SupervisedRecorder {
  /** Highest acc@1 so far, in percent. */
  bestAcc1 = 0;
  /** Path of the last checkpoint written, or null. */
  checkpoint: string | null = null;
  /** Images of the validation part that could not be read. */
  readonly badEvaluated = new Map<number, BadImage>();
  #run: SupervisedStart | null = null;
  #trainee: SupervisedTrainee | null = null;
  #log: RunLog | null = null;
  #folder: SupervisedFolder | null = null;
  #started = performance.now();
  #stepEnded = performance.now();
  #badImages = 0;
  #best = false;
  readonly #stopTime: StopTime;

  /** @param path folder of the run; null to write nothing */
  constructor(private readonly path: string | null, private readonly hooks: SupervisedHooks) {
    this.#stopTime = new StopTime((message) => path !== null && hooks.onWarning?.(message));
  }

  /** Seconds since `start`. */
  get seconds(): number {
    return (performance.now() - this.#started) / 1000;
  }

  /** Opens the log, in a folder that is made if need be, and tells the listener. The first step's time counts from here. */
  async start(run: SupervisedStart, trainee: SupervisedTrainee): Promise<void> {
    const { facts, start, options, device, epochs, resumedFrom } = run;
    const { images, stepsPerEpoch } = facts;
    this.#run = run;
    this.#trainee = trainee;
    this.bestAcc1 = run.bestAcc1;
    this.#badImages = run.knownBad;
    const entry: RunEntry = {
      kind: "run",
      started: new Date().toISOString(),
      options,
      versions: { "moco-v3": packageVersion(), node: process.versions.node, libtorch: torch.version().libtorch },
      device, images, epochs, stepsPerEpoch, firstStep: start.epoch * stepsPerEpoch + start.step, resumedFrom,
    };
    if (this.path !== null) {
      this.#folder = await SupervisedFolder.open(this.path, { background: run.background });
      this.#log = new RunLog(join(this.path, RUN_LOG));
      this.#log.write(entry);
    }
    await this.hooks.onStart?.(entry, trainee.model);
    this.#started = this.#stepEnded = performance.now();
  }

  /**
   * @param images in the step's batch
   * @param bad all images of the training part that could not be read so far
   * @throws CheckpointSaveError of a checkpoint that could not be written meanwhile
   */
  step(facts: StepFacts, images: number, bad: readonly BadImage[]): void {
    this.#folder?.check();
    const now = performance.now();
    const stepMs = now - this.#stepEnded;
    this.#stepEnded = now;
    const entry: StepEntry = { kind: "step", ...facts, imagesPerSecond: (1000 * images) / stepMs, stepMs };
    this.#log?.write(entry);
    this.hooks.onStep?.(entry);
    this.#stopTime.step(stepMs - facts.dataWaitMs);
    this.#tellBad(bad.slice(this.#badImages));
    this.#badImages = bad.length;
  }

  /**
   * Notes how well the classifier does after an epoch.
   *
   * @param average the same of the moving average of its weights, which is told and does not count for `best`
   */
  evaluated(epoch: number, { acc1, acc5, loss, images, bad }: Evaluation, average: Evaluation | null = null): EvaluationEntry {
    const best = acc1 > this.bestAcc1;
    this.bestAcc1 = Math.max(acc1, this.bestAcc1);
    this.#best = best;
    const entry: EvaluationEntry = { kind: "evaluation", epoch, acc1, acc5, loss, images, best };
    if (average !== null) entry.average = { acc1: average.acc1, acc5: average.acc5, loss: average.loss };
    this.#log?.write(entry);
    this.hooks.onEvaluation?.(entry);
    this.#tellBad(bad.filter(({ index }) => !this.badEvaluated.has(index)));
    for (const image of bad) this.badEvaluated.set(image.index, image);
    this.#stepEnded = performance.now(); // no step's time
    return entry;
  }

  /**
   * Saves `checkpoint.pth.tar`, where the run has a folder, and `model_best.pth.tar` after an evaluation that was the best so far. Only the
   * copying is waited for.
   *
   * @throws CheckpointSaveError of this save or of the one before
   */
  async save(position: Position, bad: readonly BadImage[]): Promise<void> {
    const best = this.#best;
    this.#best = false;
    if (this.#folder === null) return;
    await this.#log?.sync(); // what it tells up to here is as safe from a power cut as the checkpoint
    const value = this.#value(position, bad);
    const steps = position.epoch * this.#run!.facts.stepsPerEpoch + position.step;
    try {
      await this.#folder.save({ ...value, ...this.#run!.further?.() }, best, (save) => this.#saved(steps, save));
    } finally {
      value.best_acc1.dispose();
      value.moco_v3_run.rng_state.dispose();
    }
    this.#stepEnded = performance.now();
  }

  /** Waits until the last checkpoint is in place. @throws CheckpointSaveError if it could not be written */
  async flush(): Promise<void> {
    await this.#folder?.flush();
  }

  end(reason: EndEntry["reason"], message?: string): void {
    this.#log?.write({ kind: "end", reason, ...(message === undefined ? {} : { message }), seconds: this.seconds });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#folder?.close();
    this.#log?.close();
  }

  #value(position: Position, bad: readonly BadImage[]): SupervisedStateValue {
    const { facts, classes, layout } = this.#run!;
    const progress = { position, bestAcc1: this.bestAcc1, badImages: bad.map(({ index }) => index) };
    const value = supervisedStateValue(this.#trainee!, progress, facts, classes, layout);
    torch.keep(value.best_acc1);
    torch.keep(value.moco_v3_run.rng_state);
    return value;
  }

  #saved(steps: number, { path, stallMs, totalMs }: SupervisedSave): void {
    this.checkpoint = path;
    this.#log?.write({ kind: "checkpoint", file: basename(path), steps, stallMs, totalMs });
    this.hooks.onCheckpoint?.(path);
    this.#stopTime.saved(totalMs);
  }

  #tellBad(images: readonly BadImage[]): void {
    for (const image of images) {
      this.#log?.write({ kind: "badImage", path: image.name, reason: image.reason });
      this.hooks.onBadImage?.(image);
    }
  }
}
