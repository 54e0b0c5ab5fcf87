import { setImmediate as nextTurn } from "node:timers/promises";
import { MoCo, StepMemory } from "../../moco/index.js";
import { VisionTransformer } from "../../models/index.js";
import type { AnyModule } from "../../nn/index.js";
import { nonFiniteGradients, tensorNorms, totalNorm, type GradScaler } from "../../optim/index.js";
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
    /** File from which `replayStep` does the step again; null where none was written. */
    readonly replay: string | null = null,
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

/** What is found out about a step. */
export interface FoundNumbers {
  loss: number;
  gradientNorm: number;
  weightNorm: number;
  /** Norm of each gradient, by its parameter's name. */
  gradientNorms: ReadonlyMap<string, number>;
  /** Numbers that the guard does not look at. */
  further: readonly number[];
}

/**
 * Loss, norm of the gradients and norm of the weights, norm of each gradient and what else belongs to a step, which the device is still
 * computing. Every number is a mean over the batch or the same in all processes, so that the mean over processes is that of the whole batch.
 */
export class Findings {
  readonly #values: Tensor; // [3 + gradients + further]
  readonly #done: StreamEvent | null;

  /**
   * @param values on their device, in this order
   * @param names of the parameters that have a gradient
   */
  constructor(values: Tensor, private readonly names: readonly string[]) {
    const { device, dtype, shape } = values;
    const stream = torch.currentStream(device);
    const waits = stream.handle !== null;
    this.#values = torch.keep(waits ? torch.empty(shape, { dtype, pinMemory: true }).copy_(values, true) : values);
    this.#done = waits ? stream.record() : null;
  }

  /** Waits for the device while this thread's other work goes on, such as the next batch's. */
  async arrive(): Promise<void> {
    while (this.#done?.query() === false) await nextTurn();
  }

  /** The numbers; holds the thread where they have not arrived. The findings are used up then. */
  take(): FoundNumbers {
    this.#done?.synchronize();
    this.#done?.dispose();
    const numbers = Array.from(this.#values.data(), Number);
    this.#values.dispose();
    const [loss, gradientNorm, weightNorm] = numbers as [number, number, number];
    const gradientNorms = new Map(this.names.map((name, i) => [name, numbers[3 + i]!]));
    return { loss, gradientNorm, weightNorm, gradientNorms, further: numbers.slice(3 + this.names.length) };
  }
}

/**
 * Keeps values that are not finite out of a network that is trained: MoCo's two encoders, or a classifier.
 *
 * The order of a step makes that possible: the momentum encoder moves, inside `forward`, towards base weights that the step before left
 * finite; the base weights change only after loss and gradients have been looked at. What `forward` changes too early, the momentum encoder
 * and the running statistics of BatchNorm, is remembered before and put back when the step is refused: such a step leaves no trace.
 */
export class FiniteGuard {
  readonly #parameters: Tensor[] = [];
  readonly #names: string[] = [];
  readonly #memory: StepMemory;
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
    this.#memory = new StepMemory(network);
  }

  /** Call before `forward`. */
  remember(): void {
    this.#memory.remember();
  }

  /** Puts back what `forward` has changed since `remember`. */
  undo(): void {
    this.#memory.restore();
  }

  /**
   * Call between `backward` and the optimiser's step, with gradients that are no longer scaled: what is to be known about the step is on its
   * way then, in one read, the only one of a step.
   *
   * @param further numbers of no or one dimension that are read along
   */
  look(output: Tensor, further: readonly Tensor[] = []): Findings {
    return torch.scope(() => this.findings(this.numbers(output, further)));
  }

  /** What `look` has the device do, for work that is recorded: loss, norms of gradients and weights, norm of each gradient, and the further ones. */
  numbers(output: Tensor, further: readonly Tensor[] = []): Tensor {
    const { device } = output;
    return torch.noGrad(() => torch.scope(() => {
      const gradients = this.#parameters.flatMap(({ grad }) => (grad === null ? [] : [grad]));
      const norms = gradients.length === 0 ? torch.zeros([0], { device }) : tensorNorms(gradients).to(device);
      // The 2-norm of the weights, because it is read 15 times faster than the largest magnitude.
      const whole = torch.stack([output.detach(), torch.linalgVectorNorm(norms), totalNorm(this.#parameters).to(device)]);
      return inOneRow([whole, norms, ...further], device);
    }));
  }

  /** Sends {@link numbers} on their way, and further ones with them, while the gradients are there. */
  findings(numbers: Tensor, further: readonly Tensor[] = []): Findings {
    const names = this.#names.filter((_, i) => this.#parameters[i]!.grad !== null);
    return torch.noGrad(() => torch.scope(() => new Findings(further.length === 0 ? numbers : inOneRow([numbers, ...further], numbers.device), names)));
  }

  /**
   * Judges what {@link look} has found, and returns it.
   *
   * In float16 a gradient that overflowed under the scale is no fault: the scaler passes over that step and takes a smaller scale, so only
   * one that overflows without any scale left stops the run.
   *
   * @throws NonFiniteError
   */
  judge(findings: Findings, place: StepPlace): FoundNumbers {
    const found = findings.take();
    const { loss, gradientNorm: norm, weightNorm: weights } = found;
    if (!Number.isFinite(loss)) throw this.#refuse("loss", `the loss is ${loss}`, place);
    const nonFinite = Number.isFinite(norm) ? [] : nonFiniteGradients(this.#parameters);
    if (nonFinite.length > 0) {
      if (this.scaler.getScale() > 1) return found;
      const named = nonFinite.slice(0, NAMED).map((index) => this.#names[index]).join(", ");
      const more = nonFinite.length > NAMED ? ` and ${nonFinite.length - NAMED} more` : "";
      throw this.#refuse("gradient", `the gradient of ${named}${more} is not finite`, place);
    }
    if (!(place.lr * Math.max(1, norm, weights * Math.max(1, this.context.weightDecay)) < LARGEST_UPDATE)) {
      const norms = `weights of norm ${weights.toPrecision(3)} and gradients of norm ${norm.toPrecision(3)}`;
      throw this.#refuse("update", `${norms} would overflow in the next update`, place);
    }
    return found;
  }

  /** Looks and judges at once: holds the thread until the device is done. @throws NonFiniteError */
  check(output: Tensor, place: StepPlace): FoundNumbers {
    return this.judge(this.look(output), place);
  }

  dispose(): void {
    this.#memory.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #refuse(what: NonFiniteError["what"], finding: string, place: StepPlace): NonFiniteError {
    this.undo();
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
}

/** Numbers of no or one dimension, for one read. */
function inOneRow(numbers: readonly Tensor[], device: string): Tensor {
  return torch.cat(numbers.map((each) => each.to(device).reshape([-1])));
}
