import { setImmediate as nextTurn } from "node:timers/promises";
import { MoCo } from "../../moco/index.js";
import { VisionTransformer } from "../../models/index.js";
import type { AnyModule } from "../../nn/index.js";
import { gradientNorm, nonFiniteGradients, totalNorm, type GradScaler } from "../../optim/index.js";
import * as torch from "../../torch/index.js";
import type { StreamEvent, Tensor } from "../../torch/index.js";

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

/** Loss, norm of the gradients and norm of the weights, which the device is still computing. */
export class Findings {
  readonly #values: Tensor; // [3]
  readonly #done: StreamEvent | null;

  /** @param values [3], on their device */
  constructor(values: Tensor) {
    const { device, dtype } = values;
    const stream = torch.currentStream(device);
    const waits = stream.handle !== null;
    this.#values = torch.keep(waits ? torch.empty([3], { dtype, pinMemory: true }).copy_(values, true) : values);
    this.#done = waits ? stream.record() : null;
  }

  /** Waits for the device while this thread's other work goes on, such as the next batch's. */
  async arrive(): Promise<void> {
    while (this.#done?.query() === false) await nextTurn();
  }

  /** The three numbers; holds the thread where they have not arrived. The findings are used up then. */
  take(): [loss: number, gradientNorm: number, weightNorm: number] {
    this.#done?.synchronize();
    this.#done?.dispose();
    const numbers = Array.from(this.#values.data(), Number);
    this.#values.dispose();
    return numbers as [number, number, number];
  }
}

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
  /** Each kind of number by itself: a copy of many tensors of one dtype is one kernel on a GPU, of mixed ones a kernel each. */
  readonly #statistics: readonly (readonly Tensor[])[];
  readonly #remembered: readonly (readonly Tensor[])[];
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
    const buffers = network.namedBuffers().map(([, buffer]) => buffer);
    this.#statistics = [...new Set(buffers.map(({ dtype }) => dtype))].map((dtype) => buffers.filter((buffer) => buffer.dtype === dtype));
    this.#remembered = torch.noGrad(() => this.#statistics.map((group) => group.map((buffer) => torch.keep(buffer.clone()))));
  }

  /** Call before `forward`. */
  remember(): void {
    this.#copy(this.#remembered, this.#statistics);
  }

  /**
   * Call between `backward` and the optimiser's step, with gradients that are no longer scaled: loss, norm of the gradients and norm of the
   * weights are on their way then, in one read, the only one of a step.
   */
  look(output: Tensor): Findings {
    return torch.scope(() => this.send(this.measure(output)));
  }

  /** Begins to read what {@link measure} gave. */
  send(measured: Tensor): Findings {
    return torch.noGrad(() => torch.scope(() => new Findings(measured)));
  }

  /** The numbers that {@link look} reads, [3] on the output's device: work for that device only, which can be recorded. */
  measure(output: Tensor): Tensor {
    const { device } = output;
    return torch.noGrad(() => torch.scope(() => {
      // The 2-norm of the weights, because it is read 15 times faster than the largest magnitude.
      const norms = [gradientNorm(this.#parameters), totalNorm(this.#parameters)].map((norm) => norm.to(device));
      return torch.stack([output.detach(), ...norms]);
    }));
  }

  /**
   * Judges what {@link look} has found. Returns the loss and the gradients' norm.
   *
   * In float16 a gradient that overflowed under the scale is no fault: the scaler passes over that step and takes a smaller scale, so only
   * one that overflows without any scale left stops the run.
   *
   * @throws NonFiniteError
   */
  judge(findings: Findings, place: StepPlace): { loss: number; gradientNorm: number } {
    const [loss, norm, weights] = findings.take();
    if (!Number.isFinite(loss)) throw this.#refuse("loss", `the loss is ${loss}`, place);
    const nonFinite = Number.isFinite(norm) ? [] : nonFiniteGradients(this.#parameters);
    if (nonFinite.length > 0) {
      if (this.scaler.getScale() > 1) return { loss, gradientNorm: norm };
      const named = nonFinite.slice(0, NAMED).map((index) => this.#names[index]).join(", ");
      const more = nonFinite.length > NAMED ? ` and ${nonFinite.length - NAMED} more` : "";
      throw this.#refuse("gradient", `the gradient of ${named}${more} is not finite`, place);
    }
    if (!(place.lr * Math.max(1, norm, weights * Math.max(1, this.context.weightDecay)) < LARGEST_UPDATE)) {
      const norms = `weights of norm ${weights.toPrecision(3)} and gradients of norm ${norm.toPrecision(3)}`;
      throw this.#refuse("update", `${norms} would overflow in the next update`, place);
    }
    return { loss, gradientNorm: norm };
  }

  /** Looks and judges at once: holds the thread until the device is done. @throws NonFiniteError */
  check(output: Tensor, place: StepPlace): { loss: number; gradientNorm: number } {
    return this.judge(this.look(output), place);
  }

  dispose(): void {
    for (const tensor of this.#remembered.flat()) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
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

  #copy(to: readonly (readonly Tensor[])[], from: readonly (readonly Tensor[])[]): void {
    torch.noGrad(() => to.forEach((group, i) => torch._foreachCopy_(group, from[i]!)));
  }
}
