import { describe, expect, test } from "@jest/globals";
import { AdamW, LARS, OptimizerOptionError, OptimizerStateError, SGD } from "../../lib/optim/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

/** A parameter of ones with a gradient of the given values. */
function parameter(gradient: number[], shape = [gradient.length]): Tensor {
  const param = torch.ones(shape, {}).requiresGrad_();
  torch.scope(() => {
    param.grad = torch.tensor(gradient, shape);
  });
  return param;
}

describe("groups", () => {
  test("have options of their own, and all follow the schedule", () => {
    const [a, b] = [parameter([1]), parameter([1])];
    using optimizer = new SGD([{ params: [a] }, { params: [b], weightDecay: 0.5 }], { lr: 0.1 });
    optimizer.step();
    expect(a.item()).toBeCloseTo(0.9, 6);
    expect(b.item()).toBeCloseTo(0.85, 6);
    optimizer.setLearningRate(0);
    optimizer.step();
    expect(b.item()).toBeCloseTo(0.85, 6);
    expect(optimizer.stateDict().param_groups.map(({ params }) => params)).toEqual([[0], [1]]);
    [a, b].forEach((param) => param.dispose());
  });

  test("zeroGrad drops gradients, and a step without any changes nothing", () => {
    const a = parameter([1, 2]);
    using optimizer = new AdamW([a], { lr: 0.1 });
    optimizer.zeroGrad();
    expect(a.grad).toBeNull();
    optimizer.step();
    expect(a.toArray()).toEqual([1, 1]);
    expect(optimizer.stateDict().state.size).toBe(0);
    a.dispose();
  });
});

describe("rules beyond the golden data", () => {
  test("SGD with Nesterov momentum and dampening", () => {
    const a = parameter([1]);
    using nesterov = new SGD([a], { lr: 0.1, momentum: 0.5, nesterov: true });
    nesterov.step(); // buffer 1, direction 1 + 0.5
    expect(a.item()).toBeCloseTo(0.85, 6);
    nesterov.step(); // buffer 1.5, direction 1 + 0.75
    expect(a.item()).toBeCloseTo(0.675, 6);
    const b = parameter([1]);
    using dampened = new SGD([b], { lr: 0.1, momentum: 0.5, dampening: 0.5, maximize: true });
    dampened.step(); // the first buffer is not dampened: -1
    expect(b.item()).toBeCloseTo(1.1, 6);
    dampened.step(); // -0.5 - 0.5
    expect(b.item()).toBeCloseTo(1.2, 6);
    [a, b].forEach((param) => param.dispose());
  });

  test("AdamW with amsgrad keeps the largest second moment", () => {
    const a = parameter([1]);
    using optimizer = new AdamW([a], { lr: 0.1, weightDecay: 0, amsgrad: true });
    optimizer.step();
    a.grad!.zero_();
    optimizer.step();
    const state = optimizer.stateDict().state.get(0)!;
    expect([...state.keys()]).toEqual(["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"]);
    expect(state.get("max_exp_avg_sq")!.item()).toBeGreaterThan(state.get("exp_avg_sq")!.item() as number);
    a.dispose();
  });

  test("AdamW pairs a gradient laid out differently with the right elements", () => {
    const a = torch.zeros([2, 3], {}).requiresGrad_();
    const straight = torch.zeros([2, 3], {}).requiresGrad_();
    torch.scope(() => {
      const gradient = torch.tensor([[1, -1, 1], [-1, -1, 1]]);
      straight.grad = gradient.clone();
      a.grad = gradient.t().contiguous().t();
    });
    using optimizer = new AdamW([a, straight], { lr: 0.1 });
    optimizer.step();
    expect(a.toArray()).toEqual(straight.toArray());
    [a, straight].forEach((param) => param.dispose());
  });

  test("LARS treats a vector as plain momentum and a matrix by its norm", () => {
    const vector = parameter([3, 4]);
    const matrix = parameter([3, 4], [1, 2]);
    using optimizer = new LARS([vector, matrix], { lr: 1, trustCoefficient: 0.1 });
    optimizer.step();
    expect(vector.toArray()).toEqual([-2, -3]);
    const ratio = (0.1 * Math.SQRT2) / 5;
    expect((matrix.toArray() as number[][])[0][0]).toBeCloseTo(1 - 3 * ratio, 6);
    [vector, matrix].forEach((param) => param.dispose());
  });
});

describe("errors", () => {
  test("name the option, its value and its range", () => {
    const a = parameter([1]);
    expect(() => new AdamW([a], { lr: -1 })).toThrow(new OptimizerOptionError("lr is -1 and must be a number at least 0"));
    expect(() => new AdamW([a], { betas: [0.9, 1] })).toThrow("betas is 1 and must be a number in [0, 1)");
    expect(() => new LARS([a], { momentum: Number.NaN })).toThrow("momentum is NaN");
    expect(() => new SGD([a], { nesterov: true })).toThrow("nesterov needs momentum above 0");
    expect(() => new SGD([])).toThrow("at least one parameter");
    expect(() => new SGD([a, a])).toThrow("a parameter occurs twice");
    a.dispose();
  });

  test("a state of another model is refused and changes nothing", () => {
    const [a, b] = [parameter([1, 2]), parameter([1, 2, 3])];
    using one = new AdamW([a]);
    using other = new AdamW([b]);
    using both = new AdamW([a, b]);
    one.step();
    other.step();
    const state = one.stateDict();
    const bytes = other.stateDict().state.get(0)!.get("exp_avg")!.bytes();
    expect(() => other.loadStateDict(state)).toThrow(/state\[0\]\.exp_avg has shape \[2\] and its parameter \[3\]/);
    expect(() => both.loadStateDict(state)).toThrow(/has 1 parameters and this optimiser's 2/);
    expect(() => other.loadStateDict({})).toThrow(OptimizerStateError);
    expect(() => other.loadStateDict(null)).toThrow(OptimizerStateError);
    expect(other.stateDict().state.get(0)!.get("exp_avg")!.bytes()).toEqual(bytes);
    [a, b].forEach((param) => param.dispose());
  });

  test("an old AdamW state whose step is a number is taken", () => {
    const a = parameter([1]);
    using optimizer = new AdamW([a]);
    const moments = [torch.tensor([0.5]), torch.tensor([0.25])];
    const values = { step: 7, exp_avg: moments[0], exp_avg_sq: moments[1] };
    optimizer.loadStateDict({ state: new Map([[0, values]]), param_groups: [{ lr: 0.5, betas: [0.8, 0.9], eps: 1e-8, weight_decay: 0, params: [0] }] });
    expect(optimizer.stateDict().state.get(0)!.get("step")!.item()).toBe(7);
    expect(optimizer.paramGroups[0]).toMatchObject({ lr: 0.5, betas: [0.8, 0.9], weightDecay: 0, amsgrad: false });
    [a, ...moments].forEach((tensor) => tensor.dispose());
  });
});
