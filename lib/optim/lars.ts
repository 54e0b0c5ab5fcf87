import * as torch from "../torch/index.js";
import { Tensor } from "../torch/index.js";
import { descend } from "./descent.js";
import { Optimizer, type OptimizerOptions, type ParamGroup, type Params, type RatePlacement } from "./optimizer.js";
import { requireRange } from "./options.js";

/** Rates of {@link LARS}, with upstream's defaults. */
export interface LARSOptions extends OptimizerOptions {
  /** Added to the gradient before its norm is taken. */
  weightDecay: number;
  momentum: number;
  /** The step of a tensor has `trustCoefficient` times the tensor's own norm, before `lr`. */
  trustCoefficient: number;
}

/**
 * LARS (You et al. 2017) as MoCo v3 trains ResNets with it: tensors of one dimension or less (biases, norm gains) get neither weight decay
 * nor trust scaling, and the learning rate is applied after the momentum, not inside it.
 *
 * For a tensor p with gradient g: `d = g + weightDecay * p`; `d *= trustCoefficient * |p| / |d|` unless either norm is 0;
 * `mu = momentum * mu + d`; `p -= lr * mu`. State per parameter: `mu`.
 *
 * @throws OptimizerOptionError for an option outside its range
 */
export class LARS extends Optimizer<LARSOptions> {
  constructor(params: Params<LARSOptions>, options: Partial<LARSOptions> = {}, placement: RatePlacement = {}) {
    super(params, { lr: 0, weightDecay: 0, momentum: 0.9, trustCoefficient: 0.001, ...options }, placement);
  }

  protected override checkOptions({ lr, weightDecay, momentum, trustCoefficient }: LARSOptions): void {
    requireRange("lr", lr, 0);
    requireRange("weightDecay", weightDecay, 0);
    requireRange("momentum", momentum, 0);
    requireRange("trustCoefficient", trustCoefficient, 0);
  }

  protected override requiredState(): string[] {
    return ["mu"];
  }

  protected override knowsState(key: string): boolean {
    return key === "mu";
  }

  protected override update(group: ParamGroup<LARSOptions>, params: Tensor[], gradients: Tensor[]): void {
    const { weightDecay, momentum, trustCoefficient } = group;
    const buffers = params.map((param) => this.stateOf(param, () => ({ mu: torch.zerosLike(param) })).get("mu")!);

    const adapted = params.flatMap((param, i) => (param.ndim > 1 ? [i] : []));
    const directions = [...gradients];
    if (adapted.length > 0) {
      const scaled = trustScaled(
        adapted.map((i) => params[i]),
        adapted.map((i) => gradients[i]),
        weightDecay,
        trustCoefficient,
      );
      adapted.forEach((i, j) => (directions[i] = scaled[j]));
    }
    torch._foreachMul_(buffers, momentum);
    torch._foreachAdd_(buffers, directions);
    const lr = this.rateOf(group);
    if (lr instanceof Tensor) descend(params, buffers, lr);
    else torch._foreachAdd_(params, buffers, { alpha: -lr });
  }
}

/** Decayed gradients, each scaled to `trust` times the norm of its parameter. Norms stay on the device: no value is read back. */
function trustScaled(params: Tensor[], gradients: Tensor[], weightDecay: number, trust: number): Tensor[] {
  const decayed = torch._foreachAdd(gradients, params, { alpha: weightDecay });
  const paramNorms = torch.stack(torch._foreachNorm(params, 2));
  const decayedNorms = torch.stack(torch._foreachNorm(decayed, 2));
  const bothPositive = paramNorms.gt(0).logicalAnd(decayedNorms.gt(0));
  const ratios = torch.where(bothPositive, paramNorms.mul(trust).div(decayedNorms), torch.onesLike(paramNorms));
  torch._foreachMul_(decayed, ratios.unbind(0));
  return decayed;
}
