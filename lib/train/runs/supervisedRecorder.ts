import type { BadImage } from "../../data/index.js";
import type { EvaluationEntry, RunEntry, StepEntry } from "../../report/index.js";
import type { Module } from "../../nn/index.js";
import * as torch from "../../torch/index.js";
import type { Position } from "./checkpointFiles.js";
import type { Evaluation } from "../evaluateClassifier.js";
import type { Logging } from "./logging.js";
import type { RunFacts } from "./ownPart.js";
import { SupervisedFolder } from "./supervisedFolder.js";
import { supervisedStateValue, type SupervisedLayout, type SupervisedStateValue, type SupervisedTrainee } from "./supervisedState.js";
import { TrainingRecorder } from "./trainingRecorder.js";

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
  /** All options, for the log, and who else hears of the training. */
  options: Record<string, unknown> & { logging?: Logging };
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

/** Records a training with labels. */
export class SupervisedRecorder extends TrainingRecorder<Module, SupervisedHooks> {
  /** Highest acc@1 so far, in percent. */
  bestAcc1 = 0;
  /** Images of the validation part that could not be read. */
  readonly badEvaluated = new Map<number, BadImage>();
  #run: SupervisedStart | null = null;
  #trainee: SupervisedTrainee | null = null;
  #saves: SupervisedFolder | null = null;
  #best = false;

  /** Opens log and loggers, in a folder that is made if need be, and tells the listener. The first step's time counts from here. */
  async start(run: SupervisedStart, trainee: SupervisedTrainee): Promise<void> {
    this.#run = run;
    this.#trainee = trainee;
    this.bestAcc1 = run.bestAcc1;
    if (this.folder !== null) this.#saves = await SupervisedFolder.open(this.folder, { background: run.background });
    await this.begin({ ...run, logging: run.options.logging, network: trainee.model });
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
    this.tell(entry);
    this.hooks.onEvaluation?.(entry);
    this.tellBad(bad.filter(({ index }) => !this.badEvaluated.has(index)));
    for (const image of bad) this.badEvaluated.set(image.index, image);
    this.leaveOutTime();
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
    if (this.#saves === null) return;
    await this.syncLog();
    const value = this.#value(position, bad);
    const steps = position.epoch * this.stepsPerEpoch + position.step;
    try {
      await this.#saves.save({ ...value, ...this.#run!.further?.() }, best, (save) => this.tellSaved({ ...save, steps }));
    } finally {
      value.best_acc1.dispose();
      value.moco_v3_run.rng_state.dispose();
    }
    this.leaveOutTime();
  }

  override async flush(): Promise<void> {
    await this.#saves?.flush();
  }

  protected override checkSaves(): void {
    this.#saves?.check();
  }

  protected override async closeSaves(): Promise<void> {
    await this.#saves?.close();
  }

  #value(position: Position, bad: readonly BadImage[]): SupervisedStateValue {
    const { facts, classes, layout } = this.#run!;
    const progress = { position, bestAcc1: this.bestAcc1, badImages: bad.map(({ index }) => index) };
    const value = supervisedStateValue(this.#trainee!, progress, facts, classes, layout);
    torch.keep(value.best_acc1);
    torch.keep(value.moco_v3_run.rng_state);
    return value;
  }
}
