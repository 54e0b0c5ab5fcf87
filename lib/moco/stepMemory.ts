import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import type { MoCo } from "./moco.js";

/** Remembers what a step changes before the optimiser does, so that it can be abandoned: as large as the momentum encoder. */
export class StepMemory {
  readonly #device: string;
  /** The momentum encoder's parameters, and each dtype of BatchNorm's statistics by itself: a copy of mixed ones is a kernel each on a GPU. */
  readonly #groups: { live: Tensor[]; copies: Tensor[] }[];
  #random: Tensor | null = null;

  constructor(moco: MoCo) {
    const followers = moco.momentumEncoder.parameters();
    const buffers = moco.namedBuffers().map(([, buffer]) => buffer);
    this.#device = followers[0]!.device;
    this.#groups = [...byDtype(followers), ...byDtype(buffers)].map((live) => ({
      live, copies: torch.noGrad(() => live.map((tensor) => torch.keep(torch.emptyLike(tensor)))),
    }));
  }

  remember(): void {
    torch.noGrad(() => this.#groups.forEach(({ live, copies }) => torch._foreachCopy_(copies, live)));
    this.#random?.dispose();
    this.#random = torch.keep(torch.getRngState(this.#device));
  }

  /** Puts everything back, to the bit. */
  restore(): void {
    torch.noGrad(() => this.#groups.forEach(({ live, copies }) => torch._foreachCopy_(live, copies)));
    if (this.#random !== null) torch.setRngState(this.#random, this.#device);
  }

  dispose(): void {
    this.#groups.flatMap(({ copies }) => copies).forEach((tensor) => tensor.dispose());
    this.#random?.dispose();
  }
}

/** Tensors of one dtype each. */
export function byDtype(tensors: readonly Tensor[]): Tensor[][] {
  return [...new Set(tensors.map(({ dtype }) => dtype))].map((dtype) => tensors.filter((tensor) => tensor.dtype === dtype));
}
