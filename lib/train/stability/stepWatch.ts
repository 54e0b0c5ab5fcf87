import { isStream, nameOf, type BadImage, type ImageSource, type ImageStream, type TwoViewBatch } from "../../data/index.js";
import { clipGradients } from "../../optim/index.js";
import type { StepSignals, WarningEntry } from "../../report/index.js";
import type { Tensor } from "../../torch/index.js";
import type { Recipe } from "../pretrainOptions.js";
import { FiniteGuard, NonFiniteError, type Findings, type FoundNumbers, type StepPlace } from "../runs/finiteGuard.js";
import type { RunFacts, Trainee } from "../runs/trainingState.js";
import { saveFailedStep } from "./failedStep.js";
import { SignalReader } from "./signalReader.js";
import { roundSignals } from "./roundSignals.js";
import { Snapshot, type SavedSnapshot } from "./snapshot.js";
import { SpikeDetector, type Spike } from "./spikeDetector.js";
import { SpikePolicy } from "./spikePolicy.js";
import { TroubleFinder } from "./troubles.js";
import { WarningLimit } from "./warningLimit.js";

/** What a watch tells others of, and takes from them. */
export interface WatchSurroundings {
  facts: RunFacts;
  source: ImageSource | ImageStream;
  warn(warning: Omit<WarningEntry, "kind">): void;
}

/** A step that has been computed and not yet been made. */
export interface WatchedStep extends StepPlace {
  /** Of the momentum encoder. */
  momentum: number;
  batch: TwoViewBatch;
  /** Images found unreadable so far. */
  bad: readonly BadImage[];
}

/** What becomes of a step. */
export interface StepVerdict {
  loss: number;
  /** Before clipping. */
  gradientNorm: number;
  signals?: StepSignals;
  /** Absent where the weights are to be updated. */
  action?: "skipped" | "rolled-back";
}

/** What a checkpoint keeps of a watch, so that a run that is resumed decides as one that was not stopped. */
export interface SavedWatch {
  /** JSON of the running medians and counts: numbers of any size come back exactly, and PyTorch reads a string. */
  stability?: string;
  rollback?: SavedSnapshot;
}

/**
 * Watches the steps of a pre-training: keeps out values that are not finite, reads the signals of instability, warns, and answers spikes as
 * the run's `onSpike` asks.
 *
 * A step that is skipped leaves no trace in what is trained: weights, optimiser, momentum encoder, statistics of BatchNorm and the scaler
 * are as before it. Only the run's place moves on, and with it the schedules and the images. A rollback puts all of that back to the last
 * snapshot, taken every `rollbackSteps` steps, and the run's place moves on in the same way: past the images that it was about.
 */
export class StepWatch {
  readonly #guard: FiniteGuard;
  readonly #reader: SignalReader | null;
  readonly #detector: SpikeDetector;
  readonly #policy: SpikePolicy;
  readonly #troubles: TroubleFinder;
  readonly #limit = new WarningLimit();
  #snapshot: Snapshot | null = null;
  #step = 0;

  constructor(
    private readonly trained: Omit<Trainee, "watch">, private readonly recipe: Recipe, private readonly surroundings: WatchSurroundings,
  ) {
    this.#guard = new FiniteGuard(trained.moco, trained.scaler, recipe);
    this.#reader = recipe.watch ? new SignalReader(trained.moco) : null;
    this.#detector = new SpikeDetector(recipe.spikeRatio);
    this.#policy = new SpikePolicy(recipe.onSpike);
    this.#troubles = new TroubleFinder(trained.moco, recipe);
  }

  /** Call before `forward`. @param step counts from 0 over the whole run */
  begin(step: number): void {
    this.#step = step;
    this.#guard.remember();
    this.#reader?.forget();
    if (this.recipe.onSpike !== "rollback") return;
    // At steps that follow from their number, so that a resumed run takes the same ones.
    if (this.#snapshot === null) this.#snapshot = Snapshot.take(this.trained, step);
    else if (step % this.recipe.rollbackSteps === 0) this.#snapshot = this.#snapshot.retake(this.trained, step);
  }

  /** Forgets what it has seen of the step so far: another attempt at it follows. */
  forget(): void {
    this.#reader?.forget();
  }

  /** Puts back what `forward` has changed, where the step is not to be made. */
  undo(): void {
    this.#guard.undo();
  }

  /**
   * What it wants to know of a step, for the device to compute; this may be part of a recording. Call after `backward`, with gradients that are
   * no longer scaled.
   *
   * @param agree makes the means over all processes of what each has found in its part of the batch
   */
  numbers(output: Tensor, agree: (numbers: Tensor[]) => Tensor[] = (numbers) => numbers): Tensor {
    const [loss, ...further] = agree([output, ...(this.#reader?.contrast() ?? [])]) as [Tensor, ...Tensor[]];
    return this.#guard.numbers(loss, further);
  }

  /** Sends what {@link numbers} gave on its way here. */
  findings(numbers: Tensor): Findings {
    return this.#guard.findings(numbers, this.#reader?.distance(this.#step));
  }

  /**
   * Judges a step, clips its gradients where that is asked for, and puts back what it has changed already where it is not to be made.
   *
   * @throws NonFiniteError, once the batch is saved for `replayStep`; SpikeLimitError
   */
  async judge(findings: Findings, step: WatchedStep): Promise<StepVerdict> {
    const found = await this.#judgeFinite(findings, step);
    const { loss, gradientNorm } = found;
    const { optimizer } = this.trained;
    const { clipGrad } = this.recipe;
    if (this.#reader === null) {
      if (clipGrad !== null) clipGradients(optimizer.parameters(), gradientNorm, clipGrad);
      return { loss, gradientNorm };
    }
    const signals = this.#reader.read(found);
    const spikes = this.#detector.look(gradientNorm, signals.gradients);
    const alerts = this.#warn(signals, spikes, step);
    const action = this.#answer(spikes, step);
    if (action === undefined && clipGrad !== null) clipGradients(optimizer.parameters(), gradientNorm, clipGrad);
    return { loss, gradientNorm, signals: roundSignals({ ...signals, ...(alerts.length > 0 ? { alerts } : {}) }), ...(action && { action }) };
  }

  /** For a checkpoint; its tensors are those of the snapshot itself. */
  get saved(): SavedWatch {
    if (this.#reader === null) return {};
    const stability = JSON.stringify({ usual: this.#detector, policy: this.#policy, troubles: this.#troubles, told: this.#limit });
    return { stability, ...(this.#snapshot === null ? {} : { rollback: this.#snapshot.saved }) };
  }

  /** Goes on from what a checkpoint keeps, and begins anew where it keeps nothing. */
  restore({ stability, rollback }: SavedWatch): void {
    if (this.#reader === null || stability === undefined) return;
    const state = JSON.parse(stability) as {
      usual: Parameters<SpikeDetector["restore"]>[0]; policy: Parameters<SpikePolicy["restore"]>[0];
      troubles: Parameters<TroubleFinder["restore"]>[0]; told: Parameters<WarningLimit["restore"]>[0];
    };
    this.#detector.restore(state.usual);
    this.#policy.restore(state.policy);
    this.#troubles.restore(state.troubles);
    this.#limit.restore(state.told);
    if (rollback !== undefined && this.recipe.onSpike === "rollback") this.#snapshot = Snapshot.of(rollback);
  }

  dispose(): void {
    this.#guard.dispose();
    this.#reader?.dispose();
    this.#snapshot?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  async #judgeFinite(findings: Findings, step: WatchedStep): Promise<FoundNumbers> {
    try {
      return this.#guard.judge(findings, step);
    } catch (error) {
      if (!(error instanceof NonFiniteError)) throw error;
      const { facts, source } = this.surroundings;
      const names = step.batch.indices.map((index) => (isStream(source) ? `image ${index}` : nameOf(source, index)));
      throw await saveFailedStep(error, step, names, this.recipe, facts, { ...this.trained, watch: this });
    }
  }

  /** Tells of troubles, and returns them in a few words each. */
  #warn(signals: Omit<StepSignals, "alerts">, spikes: readonly Spike[], { step, lr }: WatchedStep): string[] {
    const troubles = this.#troubles.find(signals, spikes, lr);
    for (const { what, message } of troubles) {
      const { tell, kept } = this.#limit.passes(what, step);
      const more = kept > 0 ? ` (So it was in ${kept} more steps since this was told last.)` : "";
      if (tell) this.surroundings.warn({ step, what, message: `step ${step}: ${message}.${more}` });
    }
    return troubles.map(({ alert }) => alert);
  }

  /** Does what the policy says. */
  #answer(spikes: readonly Spike[], { step }: WatchedStep): "skipped" | "rolled-back" | undefined {
    const snapshot = this.#snapshot;
    let action: ReturnType<SpikePolicy["decide"]>;
    try {
      action = this.#policy.decide(spikes, step, snapshot?.step ?? null);
    } catch (error) {
      this.#guard.undo();
      throw error;
    }
    if (action === undefined) return undefined;
    this.trained.scaler.discard();
    const [{ layer, ratio }] = spikes as [Spike];
    const why = `of the spike in the gradient's norm (${layer}, ×${ratio.toPrecision(3)})`;
    if (action === "skipped") {
      this.#guard.undo();
      this.surroundings.warn({ step, what: "skipped", message: `step ${step} is skipped because ${why}` });
    } else {
      snapshot!.restore(this.trained);
      this.surroundings.warn({ step, what: "rolled-back", message: `after step ${step} the run goes on from its state before step ${snapshot!.step}, because ${why}` });
    }
    return action;
  }
}
