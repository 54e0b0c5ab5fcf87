import { readFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import type { BadImage } from "../../data/index.js";
import { RUN_LOG, RunLog, type EndEntry, type KnnEntry, type RunEntry, type StepEntry, type WarningEntry } from "../../report/index.js";
import { packageRoot } from "../../setup/packageRoot.js";
import * as torch from "../../torch/index.js";
import { positionOf, type Position } from "./checkpointFiles.js";
import { CheckpointSaver, type FinishedSave } from "./checkpointSaver.js";
import { StopTime } from "./stopTime.js";
import type { KnnJudgement } from "../knnEvaluation.js";
import type { PretrainHooks } from "../pretrain.js";
import type { Recipe } from "../pretrainOptions.js";
import type { RunFacts, Trainee } from "./trainingState.js";

/** What a step tells about itself; the recorder adds the times. */
export type StepFacts = Omit<StepEntry, "kind" | "imagesPerSecond" | "stepMs">;

/** How a run begins. */
export interface RunStart {
  recipe: Recipe;
  facts: RunFacts;
  start: Position;
  resumedFrom: string | null;
  /** Unreadable images that the resumed run has told of already. */
  knownBad: number;
}

/** Keeps what a run leaves behind, checkpoints and log in its folder, and tells whoever listens. */
export class RunRecorder {
  /** Path of the last checkpoint written, or null. */
  checkpoint: string | null = null;
  #log: RunLog | null = null;
  #saver: CheckpointSaver | null = null;
  #stepsPerEpoch = 0;
  #stepsDone = 0;
  #started = performance.now();
  #stepEnded = performance.now();
  #badImages = 0;
  #asked: Position | null = null;
  readonly #stopTime: StopTime;

  /** @param folder null to write nothing */
  constructor(private readonly folder: string | null, private readonly hooks: PretrainHooks) {
    this.#stopTime = new StopTime((message) => folder !== null && hooks.onWarning?.(message));
  }

  /** Seconds since `start`. */
  get seconds(): number {
    return (performance.now() - this.#started) / 1000;
  }

  /** Opens the log, in a folder that is made if need be, and tells the listener. The first step's time counts from here. */
  async start({ recipe, facts, start, resumedFrom, knownBad }: RunStart, trainee: Trainee): Promise<void> {
    const { arch, seed, images, stepsPerEpoch } = facts;
    const entry: RunEntry = {
      kind: "run",
      started: new Date().toISOString(),
      options: { ...recipe, encoder: arch, seed },
      versions: { "moco-v3": packageVersion(), node: process.versions.node, libtorch: torch.version().libtorch },
      device: recipe.device,
      images,
      epochs: recipe.epochs,
      stepsPerEpoch,
      firstStep: start.epoch * stepsPerEpoch + start.step,
      resumedFrom,
    };
    if (this.folder !== null) {
      const { keep, keepEvery, saveInBackground } = recipe;
      const options = { keep, keepEvery, background: saveInBackground };
      this.#saver = await CheckpointSaver.open(this.folder, trainee, facts, options, (save) => this.#saved(save));
      if (resumedFrom !== null && resolve(dirname(resumedFrom)) === resolve(this.folder) && positionOf(basename(resumedFrom)) !== null) {
        const warning = await this.#saver.tidy(basename(resumedFrom));
        if (warning !== null) this.hooks.onWarning?.(warning);
      }
      this.#log = new RunLog(join(this.folder, RUN_LOG));
      this.#log.write(entry);
    }
    this.#badImages = knownBad;
    this.#stepsPerEpoch = stepsPerEpoch;
    await this.hooks.onStart?.(entry, trainee.moco);
    this.#started = this.#stepEnded = performance.now();
  }

  /**
   * @param images in the step's batch
   * @throws CheckpointSaveError of a checkpoint that could not be written meanwhile
   */
  step(facts: StepFacts, images: number, bad: readonly BadImage[]): void {
    if (this.#stepsDone++ === 0) this.#saver?.reserve();
    this.#saver?.check();
    const now = performance.now();
    const stepMs = now - this.#stepEnded;
    this.#stepEnded = now;
    const entry: StepEntry = { kind: "step", ...facts, imagesPerSecond: (1000 * images) / stepMs, stepMs };
    this.#log?.write(entry);
    this.hooks.onStep?.(entry);
    this.#stopTime.step(stepMs - facts.dataWaitMs);
    for (const image of bad.slice(this.#badImages)) {
      this.#log?.write({ kind: "badImage", path: image.name, reason: image.reason });
      this.hooks.onBadImage?.(image);
    }
    this.#badImages = bad.length;
  }

  /** Something looks wrong in the training. */
  warn(warning: Omit<WarningEntry, "kind">): void {
    this.#log?.write({ kind: "warning", ...warning });
    this.hooks.onWarning?.(warning.message);
  }

  /**
   * Saves a checkpoint, where the run has a folder and this position is not the one that was saved last, and removes those that it makes
   * superfluous. Only the copying is waited for.
   *
   * @throws CheckpointSaveError of this save or of the one before
   */
  async save(position: Position, bad: readonly BadImage[]): Promise<void> {
    if (this.#asked?.epoch === position.epoch && this.#asked.step === position.step) return;
    this.#asked = position;
    // What the log tells up to here is as safe from a power cut as the checkpoint: a run that goes on from it does not tell it again.
    await this.#log?.sync();
    await this.#saver?.save(position, bad.map(({ index }) => index));
  }

  #saved({ path, position, stallMs, totalMs, warning }: FinishedSave): void {
    this.checkpoint = path;
    const steps = position.epoch * this.#stepsPerEpoch + position.step;
    this.#log?.write({ kind: "checkpoint", file: basename(path), steps, stallMs, totalMs });
    this.hooks.onCheckpoint?.(path);
    this.#stopTime.saved(totalMs);
    if (warning !== null) this.hooks.onWarning?.(warning);
  }

  /**
   * Judges the encoder and records how it did. What fails there, such as an image that has become unreadable, is no reason to end a
   * training: it is warned of.
   */
  async judge(epoch: number, work: () => Promise<KnnJudgement>): Promise<void> {
    const started = performance.now();
    try {
      const { scores, gallery, queries, leaveOneOut } = await work();
      const seconds = (performance.now() - started) / 1000;
      const entry: KnnEntry = { kind: "knn", epoch, ...scores[0]!, gallery, queries, leaveOneOut, seconds };
      this.#log?.write(entry);
      this.hooks.onKnn?.(entry);
    } catch (error) {
      if (!this.hooks.signal?.aborted) this.hooks.onWarning?.(`no kNN after epoch ${epoch + 1}: ${(error as Error).message}`);
    }
    this.#stepEnded = performance.now(); // the next step is not slower for it
  }

  /** Waits until the last checkpoint is in place. @throws CheckpointSaveError if it could not be written */
  async flush(): Promise<void> {
    await this.#saver?.flush();
  }

  end(reason: EndEntry["reason"], message?: string): void {
    this.#log?.write({ kind: "end", reason, ...(message === undefined ? {} : { message }), seconds: this.seconds });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#saver?.close();
    this.#log?.close();
  }
}

/** Of this package. */
export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as { version: string };
  return version;
}
