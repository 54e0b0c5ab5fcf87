import { MoCo } from "../moco/index.js";
import { VisionTransformer } from "../models/index.js";
import type { AnyModule } from "../nn/index.js";
import { checkGradients, type GradScaler } from "../optim/index.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";

/** A step whose loss, gradient or update is not finite; the run stopped before a weight was changed. */
export class NonFiniteError extends Error {
  override readonly name = "NonFiniteError";

  constructor(
    message: string,
    readonly what: "loss" | "gradient" | "update",
    /** Counts from 0 over the whole run. */
    readonly step: number,
    /** Counts from 0. */
    readonly epoch: number,
  ) {
    super(message);
  }
}

/** The step that is being checked. */
export interface StepPlace {
  step: number;
  epoch: number;
  stepInEpoch: number;
  lr: number;
}

/** What the likely causes depend on. */
export interface GuardContext {
  precision: string;
  warmupEpochs: number;
  weightDecay: number;
  /** Of pre-training's loss. */
  temperature?: number;
}

/**
 * No weight that an update makes can reach infinity while learning rate times the norm of gradients or decayed weights, or 1, stays below
 * this: it leaves a factor of 10^7 to float32's range, for momentum that has added up.
 */
const LARGEST_UPDATE = 1e31;
/** Parameters named in a message. */
const NAMED = 3;

/**
 * Keeps values that are not finite out of a network that is trained: MoCo's two encoders, or a classifier.
 *
 * The order of a step makes that possible: the momentum encoder moves, inside `forward`, towards base weights that the step before left
 * finite; the base weights change only after loss and gradients have been looked at. What does change too early are the running statistics
 * of BatchNorm, which `forward` updates: they are remembered before and put back when the step is refused.
 */
export class FiniteGuard {
  readonly #parameters: Tensor[] = [];
  readonly #names: string[] = [];
  readonly #statistics: Tensor[];
  readonly #remembered: Tensor[];
  readonly #learnsPatches: boolean;

  constructor(network: AnyModule, private readonly scaler: GradScaler, private readonly context: GuardContext) {
    for (const [name, parameter] of network.namedParameters()) {
      if (!parameter.requiresGrad) continue;
      this.#parameters.push(parameter);
      this.#names.push(name);
    }
    const baseEncoder = network instanceof MoCo ? network.baseEncoder : null;
    this.#learnsPatches =
      baseEncoder instanceof VisionTransformer && baseEncoder.patchEmbed.parameters().some((parameter) => parameter.requiresGrad);
    this.#statistics = network.namedBuffers().map(([, buffer]) => buffer);
    this.#remembered = torch.noGrad(() => this.#statistics.map((buffer) => torch.keep(buffer.clone())));
  }

  /** Call before `forward`. */
  remember(): void {
    this.#copy(this.#remembered, this.#statistics);
  }

  /**
   * Returns the loss's value.
   *
   * @throws NonFiniteError
   */
  checkLoss(loss: Tensor, place: StepPlace): number {
    const value = loss.item();
    if (Number.isFinite(value)) return value;
    throw this.#refuse("loss", `the loss is ${value}`, place);
  }

  /**
   * Call between `backward` and the optimiser's step, with gradients that are no longer scaled. Returns their norm.
   *
   * In float16 a gradient that overflowed under the scale is no fault: the scaler passes over that step and takes a smaller scale, so only
   * one that overflows without any scale left stops the run.
   *
   * @throws NonFiniteError
   */
  checkUpdate(place: StepPlace): number {
    const { norm, nonFinite } = checkGradients(this.#parameters);
    if (nonFinite.length > 0) {
      if (this.scaler.getScale() > 1) return norm;
      const named = nonFinite.slice(0, NAMED).map((index) => this.#names[index]).join(", ");
      const more = nonFinite.length > NAMED ? ` and ${nonFinite.length - NAMED} more` : "";
      throw this.#refuse("gradient", `the gradient of ${named}${more} is not finite`, place);
    }
    const weights = this.#weightNorm();
    if (!(place.lr * Math.max(1, norm, weights * Math.max(1, this.context.weightDecay)) < LARGEST_UPDATE)) {
      const norms = `weights of norm ${weights.toPrecision(3)} and gradients of norm ${norm.toPrecision(3)}`;
      throw this.#refuse("update", `${norms} would overflow in the next update`, place);
    }
    return norm;
  }

  dispose(): void {
    for (const tensor of this.#remembered) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Infinite from 1.8e19 on, where squares overflow. The 2-norm, because it is read 15 times faster than the largest magnitude. */
  #weightNorm(): number {
    return torch.noGrad(() => torch.scope(() => torch.linalgVectorNorm(torch.stack(torch._foreachNorm(this.#parameters, 2))).item()));
  }

  #refuse(what: NonFiniteError["what"], finding: string, place: StepPlace): NonFiniteError {
    this.#copy(this.#statistics, this.#remembered);
    const { step, epoch, stepInEpoch, lr } = place;
    const message =
      `Step ${step} (number ${stepInEpoch} of epoch ${epoch}, all counted from 0): ${finding}. ` +
      "Training stopped before the weights were changed.\n" +
      `Likely causes, the most likely first:\n${this.#causes(lr).map((cause) => `  - ${cause}\n`).join("")}` +
      "Begin again from an earlier checkpoint with one of these changed.";
    return new NonFiniteError(message, what, step, epoch);
  }

  #causes(lr: number): string[] {
    const { precision, warmupEpochs, temperature } = this.context;
    const rate = `the learning rate (${lr.toPrecision(3)} at this step) is too high`;
    const causes = [`${rate}: lower --lr, or lengthen --warmup-epochs (now ${warmupEpochs})`];
    if (precision === "fp16") causes.unshift("float16 ran out of range (65504 is its largest number): use --precision bf16 or fp32");
    if (this.#learnsPatches) {
      causes.push("the patch projection became unstable, as ViTs' do (MoCo v3, section 4): freeze it with --stop-grad-conv1");
    }
    if (temperature !== undefined && temperature < 0.1) causes.push(`the temperature ${temperature} is low: raise --moco-t (the paper uses 0.2 for ViTs)`);
    causes.push("a starting checkpoint whose weights were about to diverge already: resume from an earlier one");
    return causes;
  }

  #copy(to: Tensor[], from: Tensor[]): void {
    if (to.length > 0) torch.noGrad(() => torch._foreachCopy_(to, from));
  }
}
