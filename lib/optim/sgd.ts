import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { Optimizer, OptimizerOptionError, type OptimizerOptions, type ParamGroup, type Params } from "./optimizer.js";
import { requireRange } from "./options.js";

/** Rates of {@link SGD}, with PyTorch's defaults. */
export interface SGDOptions extends OptimizerOptions {
  momentum: number;
  dampening: number;
  /** L2: added to the gradient. */
  weightDecay: number;
  nesterov: boolean;
  maximize: boolean;
  /** PyTorch's choices of implementation, saved so that `torch.optim.SGD` loads our state. */
  foreach: boolean | null;
  differentiable: boolean;
  fused: boolean | null;
}

/**
 * Stochastic gradient descent with momentum, PyTorch's rule: the first momentum buffer is the first gradient itself, without dampening.
 *
 * State per parameter, where momentum is not 0: `momentum_buffer`.
 *
 * @throws OptimizerOptionError for an option outside its range
 */
export class SGD extends Optimizer<SGDOptions> {
  constructor(params: Params<SGDOptions>, options: Partial<SGDOptions> = {}) {
    super(params, {
      lr: 1e-3,
      momentum: 0,
      dampening: 0,
      weightDecay: 0,
      nesterov: false,
      maximize: false,
      foreach: null,
      differentiable: false,
      fused: null,
      ...options,
    });
  }

  protected override checkOptions({ lr, momentum, dampening, weightDecay, nesterov }: SGDOptions): void {
    requireRange("lr", lr, 0);
    requireRange("momentum", momentum, 0);
    requireRange("weightDecay", weightDecay, 0);
    if (nesterov && !(momentum > 0 && dampening === 0)) {
      throw new OptimizerOptionError(
        `nesterov needs momentum above 0 and no dampening, and they are ${momentum} and ${dampening}; set them or leave nesterov out`,
      );
    }
  }

  protected override requiredState(): string[] {
    return []; // without momentum, or with older PyTorch before the first step, there is none
  }

  protected override knowsState(key: string): boolean {
    return key === "momentum_buffer";
  }

  protected override update(group: ParamGroup<SGDOptions>, params: Tensor[], gradients: Tensor[]): void {
    const { lr, momentum, dampening, weightDecay, nesterov, maximize } = group;
    let directions = maximize ? torch._foreachNeg(gradients) : gradients;
    if (weightDecay !== 0) directions = torch._foreachAdd(directions, params, { alpha: weightDecay });
    if (momentum !== 0) {
      const buffers = this.momentumBuffers(params, directions, momentum, dampening);
      directions = nesterov ? torch._foreachAdd(directions, buffers, { alpha: momentum }) : buffers;
    }
    torch._foreachAdd_(params, directions, { alpha: -lr });
  }

  private momentumBuffers(params: Tensor[], gradients: Tensor[], momentum: number, dampening: number): Tensor[] {
    const seen = params.flatMap((param, i) => (this.state.has(param) ? [i] : []));
    const old = seen.map((i) => this.state.get(params[i])!.get("momentum_buffer")!);
    if (old.length > 0) {
      torch._foreachMul_(old, momentum);
      torch._foreachAdd_(
        old,
        seen.map((i) => gradients[i]),
        { alpha: 1 - dampening },
      );
    }
    return params.map((param, i) => this.stateOf(param, () => ({ momentum_buffer: gradients[i].clone() })).get("momentum_buffer")!);
  }
}
