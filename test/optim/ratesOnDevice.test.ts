/** Learning rates in a device's memory: the numbers of rates in JavaScript, but for rounding them to float32. */
import { describe, expect, test } from "@jest/globals";
import { AdamW, OptimizerOptionError, type ParamGroup } from "../../lib/optim/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { relativeL2 } from "../support/digest.js";
import { runPython, testPython } from "../support/python.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { kinds, rateOf, SHAPES, train } from "./rateTraining.js";

expectNoTensorsLeft();

test.each(kinds)("$name: after 30 steps as with numbers of JavaScript", (kind) => {
  const [device, host] = [train(kind, { ratesOnDevice: true }), train(kind, {})];
  expect(relativeL2(device.weights, host.weights)).toBeLessThan(1e-6);
  expect(relativeL2(device.state, host.state)).toBeLessThan(1e-6);
  expect(relativeL2(train(kind, {}, { steps: 29 }).weights, host.weights)).toBeGreaterThan(1e-5);
});

describe("a rate in device memory", () => {
  const build = (): { param: Tensor; optimizer: AdamW } => {
    const param = torch.ones([2]).requiresGrad_();
    torch.scope(() => {
      param.grad = torch.ones([2]);
    });
    return { param, optimizer: new AdamW([param], { lr: 0.1, weightDecay: 0 }, { ratesOnDevice: true }) };
  };

  test("is saved as a number, and taken over from a saved state", () => {
    const { param, optimizer } = build();
    optimizer.setLearningRate(0.25);
    const saved = optimizer.stateDict();
    expect(saved.param_groups[0]!.lr).toBe(0.25);
    optimizer.setLearningRate(1);
    optimizer.loadStateDict(saved);
    optimizer.step(); // moves each weight by the rate
    expect(param.toArray()).toEqual([expect.closeTo(0.75, 6), expect.closeTo(0.75, 6)]);
    optimizer.dispose();
    param.dispose();
  });

  test("is not changed behind the device's back", () => {
    const { param, optimizer } = build();
    (optimizer.paramGroups[0] as ParamGroup<{ lr: number }>).lr = 0.2;
    expect(() => optimizer.step()).toThrow(new OptimizerOptionError("a group's lr is 0.2, and on the device it is 0.1; with ratesOnDevice it is set by setLearningRate"));
    optimizer.dispose();
    param.dispose();
  });
});

/** The same in PyTorch, whose fused AdamW takes a rate from a tensor, too. Its random numbers are ours. */
const TRAIN = `
import json, sys, torch
torch.manual_seed(5)
params = [torch.nn.Parameter(torch.randn(shape)) for shape in json.loads(sys.argv[1])]
optimizer = torch.optim.AdamW(params, lr=torch.tensor(0.), weight_decay=0.1, fused=True)
for rate in json.loads(sys.argv[2]):
    for param in params: param.grad = torch.randn(param.shape)
    for group in optimizer.param_groups: group["lr"].fill_(rate)
    optimizer.step()
print(json.dumps([value for param in params for value in param.flatten().tolist()]))
`;

(testPython === null ? test.skip : test)("AdamW gives the bits of PyTorch's fused one with a tensor for a rate (MOCO_TEST_PYTHON)", () => {
  const rates = Array.from({ length: 30 }, (_, step) => rateOf(step));
  const theirs = runPython<number[]>(TRAIN, [JSON.stringify(SHAPES), JSON.stringify(rates)]);
  expect(Array.from(train(kinds[0]!, { ratesOnDevice: true }).weights)).toEqual(theirs);
}, 60_000);
