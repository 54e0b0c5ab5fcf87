import type { AnyModule } from "../nn/index.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { MoCo } from "./moco.js";

/**
 * Remembers what a forward pass changes before the optimiser does, so that a step can be taken back: statistics of BatchNorm and, in MoCo, the
 * momentum encoder, which it is as large as.
 */
export class StepMemory {
  readonly #groups: { live: Tensor[]; copies: Tensor[] }[];

  constructor(network: AnyModule) {
    const live = network.namedBuffers().map(([, buffer]) => buffer);
    if (network instanceof MoCo) live.push(...network.momentumEncoder.parameters());
    this.#groups = torch.noGrad(() => byDtype(live).map((group) => ({ live: group, copies: group.map((each) => torch.keep(each.clone())) })));
  }

  /** Call before `forward`. */
  remember(): void {
    torch.noGrad(() => this.#groups.forEach(({ live, copies }) => torch._foreachCopy_(copies, live)));
  }

  /** Puts everything back, to the bit. */
  restore(): void {
    torch.noGrad(() => this.#groups.forEach(({ live, copies }) => torch._foreachCopy_(live, copies)));
  }

  dispose(): void {
    this.#groups.flatMap(({ copies }) => copies).forEach((tensor) => tensor.dispose());
  }
}

/** Tensors of one dtype each: a copy of many of them is one kernel on a GPU, of mixed ones a kernel each. */
export function byDtype(tensors: readonly Tensor[]): Tensor[][] {
  return [...new Set(tensors.map(({ dtype }) => dtype))].map((dtype) => tensors.filter((tensor) => tensor.dtype === dtype));
}
