import { disposeTensors } from "../../checkpoint/index.js";
import type { GradScaler, Optimizer } from "../../optim/index.js";
import * as torch from "../../torch/index.js";
import type { Position } from "./checkpointFiles.js";
import type { OwnPart, RunFacts } from "./ownPart.js";
import { runDifferences } from "./runDifferences.js";

/** What the checkpoints of all trainings have in common: of pre-training, of a linear probe, of a fine-tuning; ours and upstream's. */
export interface SavedParts {
  path: string;
  /** As the file names it; where it does not, as the shapes tell it. */
  arch: string | null;
  /** Epochs that are done; null where the file does not tell, as released weights may not. */
  epoch: number | null;
  /** The optimiser's saved state, or null. */
  optimizer: unknown;
  /** The saved state of the loss scale, or null where losses were not scaled. */
  scaler: object | null;
  /** Null in checkpoints of upstream. */
  own: OwnPart | null;
  /** All that the file holds. */
  value: Record<string, unknown>;
}

/** A training's checkpoint that has been read and not yet put to use. */
export abstract class SavedRun implements Disposable {
  /** Where the training stood. Null where the file does not tell. */
  readonly position: Position | null;

  protected constructor(protected readonly parts: SavedParts) {
    const { own, epoch } = parts;
    const ofUpstream = epoch === null ? null : { epoch, step: 0 }; // its checkpoints begin with a whole epoch
    this.position = own === null ? ofUpstream : { epoch: own.epoch, step: own.step };
  }

  get path(): string {
    return this.parts.path;
  }

  get arch(): string | null {
    return this.parts.arch;
  }

  /** The optimiser's saved state, or null. */
  get optimizer(): unknown {
    return this.parts.optimizer;
  }

  /** All that the file holds. */
  get value(): Readonly<Record<string, unknown>> {
    return this.parts.value;
  }

  /** What is known about the run, or null in checkpoints of upstream. */
  get facts(): RunFacts | null {
    return this.parts.own?.facts ?? null;
  }

  /** Images that the run found unreadable, for a data set of the same length. */
  knownBad(images: number): number[] | undefined {
    const { own } = this.parts;
    return own?.facts.images === images ? own.bad_images : undefined;
  }

  /**
   * Compares what was saved with the run that should go on: see `runDifferences`.
   *
   * @throws ResumeError where going on makes no sense
   */
  compare(facts: RunFacts): string[] {
    return runDifferences(this, facts);
  }

  /**
   * Copies what every training has beside its network: the optimiser's state with its options, as in PyTorch, the loss scale, the generator of
   * random numbers.
   *
   * @param scaler of a training that may scale its losses
   * @returns what the file does not have and so begins anew, in words; empty for a checkpoint of ours that goes on in its own precision
   * @throws OptimizerStateError where it does not fit
   */
  protected restoreProgress(optimizer: Optimizer, scaler?: GradScaler): string[] {
    const { own, optimizer: moments, scaler: scale } = this.parts;
    const afresh: string[] = [];
    if (moments === null) afresh.push("the optimiser, without the moments of earlier steps (the file has no optimiser state)");
    else optimizer.loadStateDict(moments);
    if (scale !== null && own?.scaled !== false) scaler?.loadStateDict(scale);
    else if (scaler?.enabled) afresh.push(`the loss scale, at ${scaler.getScale()} (the file has none)`);
    if (this.position === null) afresh.push("the epochs, and with them the schedules (the file has no epoch; --start-epoch gives one)");
    if (own !== null) torch.setRngState(own.rng_state);
    else afresh.push("the random numbers, so the order of images and their crops follow this run's seed (the file keeps none)");
    return afresh;
  }

  dispose(): void {
    disposeTensors(this.parts.value);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
