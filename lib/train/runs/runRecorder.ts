import { basename, dirname, resolve } from "node:path";
import type { BadImage } from "../../data/index.js";
import type { MoCo } from "../../moco/index.js";
import type { KnnEntry, WarningEntry } from "../../report/index.js";
import { positionOf, type Position } from "./checkpointFiles.js";
import { CheckpointSaver, type FinishedSave } from "./checkpointSaver.js";
import type { KnnJudgement } from "../knnEvaluation.js";
import type { PretrainHooks } from "../pretrain.js";
import type { Recipe } from "../pretrainOptions.js";
import { TrainingRecorder } from "./trainingRecorder.js";
import type { RunFacts, Trainee } from "./trainingState.js";

/** How a run begins. */
export interface RunStart {
  recipe: Recipe;
  facts: RunFacts;
  start: Position;
  resumedFrom: string | null;
  /** Unreadable images that the resumed run has told of already. */
  knownBad: number;
}

/** Records a pre-training. */
export class RunRecorder extends TrainingRecorder<MoCo, PretrainHooks> {
  #saver: CheckpointSaver | null = null;
  #stepsDone = 0;
  #asked: Position | null = null;

  /** Opens log and loggers, in a folder that is made if need be, and tells the listener. The first step's time counts from here. */
  async start({ recipe, facts, start, resumedFrom, knownBad }: RunStart, trainee: Trainee): Promise<void> {
    if (this.folder !== null) {
      const { keep, keepEvery, saveInBackground } = recipe;
      const options = { keep, keepEvery, background: saveInBackground };
      this.#saver = await CheckpointSaver.open(this.folder, trainee, facts, options, (save) => this.#saved(save));
      if (resumedFrom !== null && resolve(dirname(resumedFrom)) === resolve(this.folder) && positionOf(basename(resumedFrom)) !== null) {
        const warning = await this.#saver.tidy(basename(resumedFrom));
        if (warning !== null) this.hooks.onWarning?.(warning);
      }
    }
    await this.begin({
      facts, options: { ...recipe, encoder: facts.arch, seed: facts.seed }, logging: recipe.logging, device: recipe.device, epochs: recipe.epochs,
      start, resumedFrom, knownBad, network: trainee.moco, encoder: trainee.moco.baseEncoder,
    });
  }

  /** Something looks wrong in the training. */
  warn(warning: Omit<WarningEntry, "kind">): void {
    this.tell({ kind: "warning", ...warning });
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
    await this.syncLog();
    await this.#saver?.save(position, bad.map(({ index }) => index));
  }

  #saved({ path, position, stallMs, totalMs, warning }: FinishedSave): void {
    this.tellSaved({ path, steps: position.epoch * this.stepsPerEpoch + position.step, stallMs, totalMs });
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
      this.tell(entry);
      this.hooks.onKnn?.(entry);
    } catch (error) {
      if (!this.hooks.signal?.aborted) this.hooks.onWarning?.(`no kNN after epoch ${epoch + 1}: ${(error as Error).message}`);
    }
    this.leaveOutTime();
  }

  override async flush(): Promise<void> {
    await this.#saver?.flush();
  }

  protected override checkSaves(): void {
    if (this.#stepsDone++ === 0) this.#saver?.reserve();
    this.#saver?.check();
  }

  protected override async closeSaves(): Promise<void> {
    await this.#saver?.close();
  }
}
