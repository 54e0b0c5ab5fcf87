/** A few parameters that an optimiser moves, with a learning rate that changes in each step: in JavaScript or in the device's memory. */
import { AdamW, LARS, type Optimizer, type RatePlacement } from "../../lib/optim/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { numbers } from "../support/digest.js";

export const SHAPES = [[7, 5], [5], [3, 2, 2, 2], []];

export interface Kind {
  name: string;
  build(params: Tensor[], placement: RatePlacement): Optimizer;
}

export const kinds: Kind[] = [
  { name: "AdamW", build: (params, placement) => new AdamW(params, { weightDecay: 0.1 }, placement) },
  { name: "AdamW with amsgrad", build: (params, placement) => new AdamW(params, { amsgrad: true, maximize: true }, placement) },
  {
    name: "AdamW in groups",
    build: ([first, ...others], placement) => new AdamW([{ params: [first!], lrScale: 0.1 }, { params: others, weightDecay: 0 }], {}, placement),
  },
  { name: "LARS", build: (params, placement) => new LARS(params, { weightDecay: 1e-4 }, placement) },
];

/** The learning rate of a step. */
export const rateOf = (step: number): number => 0.1 * Math.cos(step / 20);

/** Trains on random gradients, the same ones each time, and returns what comes of it. */
export function train({ build }: Kind, placement: RatePlacement, { steps = 30, device = "cpu" } = {}): { weights: Float64Array; state: Float64Array } {
  torch.manualSeed(5);
  const params = torch.scope(() => SHAPES.map((shape) => torch.keep(torch.randn(shape).to(device)).requiresGrad_()));
  try {
    using optimizer = build(params, placement);
    for (let step = 0; step < steps; step++) torch.scope(() => {
      for (const param of params) param.grad = torch.randn(param.shape).to(device);
      optimizer.setLearningRate(rateOf(step));
      optimizer.step();
    });
    optimizer.zeroGrad();
    const flat = (tensors: readonly Tensor[]): Float64Array => torch.scope(() => numbers(torch.cat(tensors.map((each) => each.detach().reshape([-1])))));
    return { weights: flat(params), state: flat(optimizer.stateTensors()) };
  } finally {
    params.forEach((param) => param.dispose());
  }
}
