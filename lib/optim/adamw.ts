import * as torch from "../torch/index.js";
import { Tensor } from "../torch/index.js";
import { Optimizer, OptimizerOptionError, type OptimizerOptions, type ParamGroup, type Params, type RatePlacement } from "./optimizer.js";
import { requireRange } from "./options.js";
import { OptimizerStateError } from "./savedState.js";

/** Rates of {@link AdamW}, with PyTorch's defaults. */
export interface AdamWOptions extends OptimizerOptions {
  /** Decay rates of the running means of gradient and squared gradient. */
  betas: [number, number];
  eps: number;
  /** Decoupled: each step first multiplies the parameter by `1 - lr * weightDecay`. Applies to all tensors, biases and norms too. */
  weightDecay: number;
  amsgrad: boolean;
  maximize: boolean;
  /** PyTorch's choices of implementation. Saved so that `torch.optim.AdamW` loads our state; ours is always the fused one. */
  foreach: boolean | null;
  capturable: boolean;
  differentiable: boolean;
  fused: boolean | null;
  decoupledWeightDecay: boolean;
}

/**
 * AdamW (Loshchilov & Hutter 2019) with PyTorch's defaults, as one call of libtorch's fused multi-tensor kernel.
 *
 * State per parameter: `step` (0-dim float32), `exp_avg`, `exp_avg_sq`, and `max_exp_avg_sq` with `amsgrad`.
 *
 * @throws OptimizerOptionError for an option outside its range
 * @example const optimizer = new AdamW(model.parameters(), { lr: 1.5e-4, weightDecay: 0.1 });
 */
export class AdamW extends Optimizer<AdamWOptions> {
  constructor(params: Params<AdamWOptions>, options: Partial<AdamWOptions> = {}, placement: RatePlacement = {}) {
    super(params, {
      lr: 1e-3,
      betas: [0.9, 0.999],
      eps: 1e-8,
      weightDecay: 0.01,
      amsgrad: false,
      maximize: false,
      foreach: null,
      capturable: false,
      differentiable: false,
      fused: null,
      decoupledWeightDecay: true,
      ...options,
    }, placement);
  }

  protected override checkOptions({ lr, betas, eps, weightDecay, decoupledWeightDecay }: AdamWOptions): void {
    requireRange("lr", lr, 0);
    requireRange("eps", eps, 0);
    requireRange("weightDecay", weightDecay, 0);
    for (const beta of betas) requireRange("betas", beta, 0, 1);
    if (!decoupledWeightDecay) {
      throw new OptimizerOptionError("decoupledWeightDecay: false is Adam with L2 regularisation; AdamW is the decoupled one, leave it out");
    }
  }

  protected override requiredState({ amsgrad }: AdamWOptions): string[] {
    return ["step", "exp_avg", "exp_avg_sq", ...(amsgrad ? ["max_exp_avg_sq"] : [])];
  }

  protected override knowsState(key: string): boolean {
    return ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"].includes(key);
  }

  protected override update(group: ParamGroup<AdamWOptions>, params: Tensor[], gradients: Tensor[]): void {
    const { betas, eps, weightDecay, amsgrad, maximize } = group;
    const states = params.map((param) => this.stateOf(param, () => initialState(param, amsgrad)));
    const column = (name: string): Tensor[] => states.map((state) => state.get(name)!);
    const steps = column("step");
    torch._foreachAdd_(steps, 1);
    const tensors = [
      params, gradients.map((gradient, i) => likeLayout(gradient, params[i])), column("exp_avg"), column("exp_avg_sq"),
      amsgrad ? column("max_exp_avg_sq") : [], steps,
    ] as const;
    const rates = { beta1: betas[0], beta2: betas[1], weightDecay, eps, amsgrad, maximize };
    const lr = this.rateOf(group);
    if (lr instanceof Tensor) torch._fusedAdamw_(...tensors, { lr, ...rates });
    else torch._fusedAdamw_(...tensors, { lr, ...rates });
  }

  protected override restore(param: Tensor, key: string, value: unknown, where: string): Tensor {
    if (key !== "step") return super.restore(param, key, value, where);
    // PyTorch up to 1.11 saved an int, later versions a 0-dim tensor of the default dtype, sometimes on the CPU for parameters on a GPU.
    const step = Number(value instanceof Tensor ? value.item() : value);
    if (!Number.isFinite(step)) throw new OptimizerStateError(`${where} should be a number of steps and is ${String(value)}`);
    return torch.keep(torch.full([], step, { dtype: "float32", device: param.device }));
  }
}

function initialState(param: Tensor, amsgrad: boolean): Record<string, Tensor> {
  return {
    step: torch.zeros([], { dtype: "float32", device: param.device }),
    exp_avg: torch.zerosLike(param),
    exp_avg_sq: torch.zerosLike(param),
    ...(amsgrad ? { max_exp_avg_sq: torch.zerosLike(param) } : {}),
  };
}

/**
 * The fused kernel pairs elements by their place in memory and does not look at strides: a transposed gradient would be applied to the
 * wrong weights without an error. Autograd lays gradients out like their parameters, so this copies only what a user set by hand.
 */
function likeLayout(gradient: Tensor, param: Tensor): Tensor {
  const wanted = param.strides;
  const same = gradient.strides.every((stride, i) => stride === wanted[i] || param.shape[i] === 1);
  return same ? gradient : torch.emptyLike(param).copy_(gradient);
}
