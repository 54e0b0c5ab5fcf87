import { PythonFloat } from "../checkpoint/pythonValues.js";
import * as torch from "../torch/index.js";
import { Tensor } from "../torch/index.js";
import type { Optimizer, OptimizerOptions } from "./optimizer.js";
import { asPython, OptimizerStateError } from "./savedState.js";

/** How the loss scale begins, grows and shrinks, with PyTorch's defaults. */
export interface GradScalerOptions {
  /** Default false: float32 and bfloat16 need no scaling, and on the CPU upstream's scaler is disabled too. */
  enabled?: boolean;
  initScale?: number;
  growthFactor?: number;
  backoffFactor?: number;
  /** Number of steps in a row without a non-finite gradient before the scale grows. */
  growthInterval?: number;
  device?: string;
}

/** `torch.cuda.amp.GradScaler`'s state under its own names; `{}` of a disabled one. Python's floats stay floats where they are whole. */
export type GradScalerState = Record<string, never> | ScalingState;

/** Where a gradient scaler stands. */
export interface ScalingState {
  scale: number | PythonFloat;
  growth_factor: number | PythonFloat;
  backoff_factor: number | PythonFloat;
  growth_interval: number;
  _growth_tracker: number;
}

type AnyOptimizer = Pick<Optimizer<OptimizerOptions>, "parameters" | "step">;

/**
 * Dynamic loss scaling for float16 training, with the rules and numbers of `torch.cuda.amp.GradScaler`: gradients of a scaled loss do not
 * underflow; a step with a non-finite gradient is skipped and halves the scale; 2000 good steps in a row double it.
 *
 * @example
 * scaler.scale(loss).backward();
 * scaler.step(optimizer);
 * scaler.update();
 */
export class GradScaler {
  readonly enabled: boolean;
  private growthFactor: number;
  private backoffFactor: number;
  private growthInterval: number;
  // The scale is known here and on the device: here so that nobody waits for the device to read it, there so that no copy waits for here.
  private scaleNumber: number; // a float32
  private goodSteps = 0; // since the scale last changed
  private readonly scaleTensor: Tensor; // [] float32
  private readonly inverseTensor: Tensor; // [] float32
  private readonly foundInf: Tensor; // [] float32: 1 once a gradient of this step was not finite
  private overflowed: boolean | null = null; // foundInf, once it was read
  private readonly unscaled = new Set<AnyOptimizer>();

  constructor(options: GradScalerOptions = {}) {
    const { enabled = false, initScale = 65536, growthFactor = 2, backoffFactor = 0.5, growthInterval = 2000, device = "cpu" } = options;
    this.enabled = enabled;
    this.growthFactor = growthFactor;
    this.backoffFactor = backoffFactor;
    this.growthInterval = growthInterval;
    this.scaleNumber = Math.fround(initScale);
    const [scale, inverse, foundInf] = [initScale, reciprocal(initScale), 0].map((value) =>
      torch.keep(torch.full([], value, { dtype: "float32", device }))) as [Tensor, Tensor, Tensor];
    this.scaleTensor = scale;
    this.inverseTensor = inverse;
    this.foundInf = foundInf;
  }

  /** The loss to call `backward` on: `loss` times the scale, or `loss` itself where disabled. */
  scale(loss: Tensor): Tensor {
    return this.enabled ? loss.mul(this.scaleTensor) : loss;
  }

  /** Divides an optimiser's gradients by the scale in place and notes non-finite ones. `step` does it where it was not called. */
  unscale_(optimizer: AnyOptimizer): void {
    if (this.unscaled.has(optimizer)) return;
    this.unscaleGradients(optimizer);
    this.noteUnscaled(optimizer);
  }

  /** What `unscale_` has the device do, for work that is recorded; {@link noteUnscaled} belongs to each time that it runs. */
  unscaleGradients(optimizer: AnyOptimizer): void {
    if (!this.enabled) return;
    torch.noGrad(() =>
      torch.scope(() => {
        const gradients = optimizer.parameters().flatMap((param) => (param.grad === null ? [] : [param.grad]));
        if (gradients.length > 0) torch._ampForeachNonFiniteCheckAndUnscale_(gradients, this.foundInf, this.inverseTensor);
      }),
    );
  }

  /** Knows from here on that this step's gradients have been unscaled. */
  noteUnscaled(optimizer: AnyOptimizer): void {
    if (!this.enabled) return;
    this.unscaled.add(optimizer);
    this.overflowed = null;
  }

  /**
   * Unscales the gradients if that was not done and steps the optimiser, unless a gradient is not finite. Waits for the device, where scaling
   * is enabled.
   *
   * @returns whether the optimiser stepped
   */
  step(optimizer: AnyOptimizer): boolean {
    if (this.enabled) {
      this.unscale_(optimizer);
      if (this.hasOverflowed()) return false;
    }
    optimizer.step();
    return true;
  }

  /** Adjusts the scale; call once at the end of each step. */
  update(): void {
    if (!this.enabled) return;
    const overflowed = this.hasOverflowed();
    if (overflowed) {
      this.setScale(Math.fround(this.scaleNumber * this.backoffFactor));
      this.goodSteps = 0;
      torch.noGrad(() => this.foundInf.zero_());
    } else if (++this.goodSteps === this.growthInterval) {
      const grown = Math.fround(this.scaleNumber * this.growthFactor);
      if (Number.isFinite(grown)) this.setScale(grown);
      this.goodSteps = 0;
    }
    this.overflowed = null;
    this.unscaled.clear();
  }

  /** Call in place of `step` and `update` where a step is not to be made though its gradients are finite: nothing counts it. */
  discard(): void {
    this.overflowed = null;
    this.unscaled.clear();
  }

  /** The scale in use; 1 where disabled. */
  getScale(): number {
    return this.enabled ? this.scaleNumber : 1;
  }

  private hasOverflowed(): boolean {
    return (this.overflowed ??= this.foundInf.item() !== 0);
  }

  private setScale(scale: number): void {
    this.scaleNumber = scale;
    torch.noGrad(() => {
      this.scaleTensor.fill_(scale);
      this.inverseTensor.fill_(reciprocal(scale));
    });
  }

  /** PyTorch's state: empty where disabled. */
  stateDict(): GradScalerState {
    return this.enabled ? this.resumableState() : {};
  }

  /**
   * As `stateDict`, but a disabled scaler gives the state that a new one begins with. An enabled scaler refuses an empty state, and upstream's
   * is always enabled on a GPU: it could not resume a run that did without.
   */
  resumableState(): ScalingState {
    return {
      scale: float(this.scaleNumber),
      growth_factor: float(this.growthFactor),
      backoff_factor: float(this.backoffFactor),
      growth_interval: this.growthInterval,
      _growth_tracker: this.goodSteps,
    };
  }

  /**
   * Takes over a saved state, given as a plain object or a Map. A disabled scaler ignores it, as a run that goes on in another precision wants.
   *
   * @throws OptimizerStateError where an enabled scaler is given the empty state of a disabled one, or a value is not a number
   */
  loadStateDict(saved: unknown): void {
    if (!this.enabled) return;
    const values = saved instanceof Map ? saved : new Map(Object.entries(saved ?? {}));
    if (values.size === 0) {
      throw new OptimizerStateError("the saved gradient scaler was disabled and has no scale; start this run without its state");
    }
    const read = (key: string): number => {
      const saved: unknown = values.get(key);
      const isNumber = typeof saved === "number" || typeof saved === "bigint" || saved instanceof PythonFloat || saved instanceof Tensor;
      const value = isNumber ? Number(saved instanceof Tensor ? saved.item() : saved) : NaN;
      if (!Number.isFinite(value)) throw new OptimizerStateError(`the gradient scaler's "${key}" is ${String(values.get(key))}, not a number`);
      return value;
    };
    const scale = read("scale");
    const tracker = read("_growth_tracker");
    [this.growthFactor, this.backoffFactor, this.growthInterval] = [read("growth_factor"), read("backoff_factor"), read("growth_interval")];
    this.setScale(Math.fround(scale));
    this.goodSteps = tracker;
  }

  dispose(): void {
    for (const tensor of [this.scaleTensor, this.inverseTensor, this.foundInf]) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function float(value: number): number | PythonFloat {
  return asPython(value) as number | PythonFloat;
}

/** Taken in float64 and rounded once, as PyTorch does: a float32 division on a GPU may round otherwise. */
function reciprocal(scale: number): number {
  return Math.fround(1 / Math.fround(scale));
}
