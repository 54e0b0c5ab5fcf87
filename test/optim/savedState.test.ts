/** States that other programs saved, or other optimisers: what is taken, what is refused, and what is passed on. */
import { describe, expect, test } from "@jest/globals";
import { PythonFloat, PythonTuple } from "../../lib/checkpoint/index.js";
import { AdamW, LARS, OptimizerStateError, SGD, type Optimizer } from "../../lib/optim/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

type AnyOptimizer = Pick<Optimizer, "loadStateDict" | "stateDict" | "dispose" | "step">;

function parameter(): Tensor {
  return torch.ones([2]).requiresGrad_();
}

/** Runs `body` with a parameter that has a gradient, and frees what it and the optimisers hold. */
function withParameter(body: (param: Tensor, keep: <T extends AnyOptimizer>(optimizer: T) => T) => void): void {
  const param = parameter();
  const optimizers: AnyOptimizer[] = [];
  try {
    torch.scope(() => param.sum().backward());
    body(param, (optimizer) => {
      optimizers.push(optimizer);
      return optimizer;
    });
  } finally {
    for (const optimizer of optimizers) optimizer.dispose();
    param.grad = null;
    param.dispose();
  }
}

const adamGroup = { lr: 0.1, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.1, amsgrad: false, params: [0] };
const adamState = (): Record<string, unknown> => ({ step: 3, exp_avg: torch.ones([2]), exp_avg_sq: torch.ones([2]) });

test("options are saved as PyTorch saves them: whole numbers as floats, pairs as tuples", () => {
  withParameter((param, keep) => {
    const [group] = keep(new AdamW([param], { lr: 1, betas: [0, 0.999], weightDecay: 0 })).stateDict().param_groups;
    expect(group).toEqual({
      lr: new PythonFloat(1), betas: PythonTuple.fromArray([new PythonFloat(0), 0.999]), eps: 1e-8, weight_decay: new PythonFloat(0),
      amsgrad: false, maximize: false, foreach: null, capturable: false, differentiable: false, fused: null, decoupled_weight_decay: true,
      params: [0],
    });
    expect(Object.keys(group!)).toEqual([
      "lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "foreach", "capturable", "differentiable", "fused",
      "decoupled_weight_decay", "params",
    ]);
  });
});

describe("another optimiser's state is refused, by name and with the remedy", () => {
  test.each([
    ["LARS", "AdamW"], ["LARS", "SGD"], ["SGD", "AdamW"], ["SGD", "LARS"], ["AdamW", "LARS"], ["AdamW", "SGD"],
  ] as const)("%s into %s", (from, into) => {
    const kinds = { AdamW, LARS, SGD };
    withParameter((param, keep) => {
      const saved = keep(new kinds[from]([param], { lr: 0.1 }));
      saved.step();
      const target = keep(new kinds[into]([param], { lr: 0.2 }));
      expect(() => target.loadStateDict(saved.stateDict())).toThrow(OptimizerStateError);
      expect(() => target.loadStateDict(saved.stateDict())).toThrow(new RegExp(`is of ${from} .* use ${from} \\(--optimizer ${from.toLowerCase()}\\)`));
      expect(target.paramGroups[0]!.lr).toBe(0.2);
    });
  });

  test("Adam, whose weight decay is another", () => {
    withParameter((param, keep) => {
      const target = keep(new AdamW([param]));
      const load = (): void => target.loadStateDict({ state: new Map(), param_groups: [{ ...adamGroup, decoupled_weight_decay: false }] });
      expect(load).toThrow(OptimizerStateError);
      expect(load).toThrow(/decoupledWeightDecay: false is Adam/);
    });
  });
});

describe("damaged states are refused and change nothing", () => {
  test.each<[string, object, RegExp]>([
    ["a text as learning rate", { lr: "fast" }, /param_groups\[0\]\.lr is fast/],
    ["no learning rate", { lr: null }, /lr is null/],
    ["a learning rate below 0", { lr: -1 }, /lr is -1 and must be a number at least 0/],
    ["NaN", { eps: NaN }, /eps is NaN/],
    ["one beta", { betas: [0.9] }, /betas is \[0\.9\]/],
    ["a beta above 1", { betas: [0.9, 1.5] }, /betas is 1\.5/],
    ["a number as switch", { amsgrad: 1 }, /amsgrad is 1/],
    ["a text as switch", { fused: "yes" }, /fused is yes/],
  ])("%s", (_, change, message) => {
    withParameter((param, keep) => {
      const target = keep(new AdamW([param], { lr: 0.5 }));
      const load = (): void => target.loadStateDict({ state: new Map(), param_groups: [{ ...adamGroup, ...change }] });
      expect(load).toThrow(OptimizerStateError);
      expect(load).toThrow(message);
      expect(target.paramGroups[0]).toMatchObject({ lr: 0.5, eps: 1e-8, betas: [0.9, 0.999], amsgrad: false, fused: null });
    });
  });

  test.each<[string, object, object, RegExp]>([
    ["a moment is missing", { exp_avg: undefined }, {}, /state\[0\] has no exp_avg, but step, exp_avg, exp_avg_sq/],
    ["amsgrad's maximum is missing", {}, { amsgrad: true }, /state\[0\] has no max_exp_avg_sq/],
    ["a moment is no tensor", { exp_avg: 3 }, {}, /state\[0\]\.exp_avg should be a tensor/],
    ["the step is no number", { step: "three" }, {}, /state\[0\]\.step should be a number of steps and is three/],
  ])("%s", (_, change, option, message) => {
    withParameter((param, keep) => {
      const target = keep(new AdamW([param]));
      const values = adamState();
      const load = (): void => target.loadStateDict({ state: new Map([[0, { ...values, ...change }]]), param_groups: [{ ...adamGroup, ...option }] });
      expect(load).toThrow(OptimizerStateError);
      expect(load).toThrow(message);
      expect(target.stateDict().state.size).toBe(0);
      for (const value of Object.values(values)) if (value instanceof torch.Tensor) value.dispose();
    });
  });
});

test("options and state of a newer PyTorch or of a scheduler do no harm; options are saved again as they were", () => {
  withParameter((param, keep) => {
    const target = keep(new AdamW([param]));
    const future = { initial_lr: new PythonFloat(1), someFlag: true, _odd_2: [1, new PythonFloat(2)], params_note: "x" };
    const tensor = torch.ones([2]);
    const values = { ...adamState(), future_moment: torch.ones([7]) };
    target.loadStateDict({ state: new Map([[0, values]]), param_groups: [{ ...adamGroup, ...future, mask: tensor }] });
    for (const each of [tensor, ...Object.values(values)]) if (each instanceof torch.Tensor) each.dispose();
    const { state, param_groups: [group] } = target.stateDict();
    expect(group).toMatchObject(future);
    expect(group).not.toHaveProperty("mask");
    expect([...state.get(0)!.keys()]).toEqual(["step", "exp_avg", "exp_avg_sq"]);
    target.step();
    expect(state.get(0)!.get("step")!.item()).toBe(4);

    // A state without them does not keep those of the one before.
    target.loadStateDict({ state: new Map(), param_groups: [adamGroup] });
    expect(target.stateDict().param_groups[0]).not.toHaveProperty("initial_lr");
  });
});

test.each([
  ["a number, as before PyTorch 1.12", () => 7],
  ["a bigint", () => 7n],
  ["a float", () => new PythonFloat(7)],
  ["a 0-dim float32 tensor", () => torch.tensor(7, [])],
  ["a float64 tensor of one element", () => torch.tensor([7], [1], { dtype: "float64" })],
])("a step count that is %s", (_, make) => {
  withParameter((param, keep) => {
    const target = keep(new AdamW([param]));
    const values = { ...adamState(), step: make() as unknown };
    target.loadStateDict({ state: new Map([[0, values]]), param_groups: [adamGroup] });
    const step = target.stateDict().state.get(0)!.get("step")!;
    expect([step.item(), step.shape, step.dtype]).toEqual([7, [], "float32"]);
    for (const each of Object.values(values)) if (each instanceof torch.Tensor) each.dispose();
  });
});

test("a learning rate that is a tensor, as with capturable optimisers, comes as a number", () => {
  withParameter((param, keep) => {
    const target = keep(new AdamW([param]));
    const lr = torch.tensor(0.25, []);
    target.loadStateDict({ state: new Map(), param_groups: [{ ...adamGroup, lr, capturable: true }] });
    lr.dispose();
    expect(target.paramGroups[0]).toMatchObject({ lr: 0.25, capturable: true });
    target.step();
  });
});

test("SGD goes on without a momentum buffer, as PyTorch's does", () => {
  withParameter((param, keep) => {
    const target = keep(new SGD([param], { lr: 1 }));
    const group = { lr: 0.5, momentum: 0.9, dampening: 0, weight_decay: 0, nesterov: false, params: [0] };
    target.loadStateDict({ state: new Map([[0, { momentum_buffer: null }]]), param_groups: [group] });
    target.step();
    expect(param.toArray()).toEqual([0.5, 0.5]);
    expect(target.stateDict().state.get(0)!.get("momentum_buffer")!.toArray()).toEqual([1, 1]);
  });
});
