/** Initialisers: bounds and spread of their laws, and the generator that they draw from. */
import { describe, expect, test } from "@jest/globals";
import { Conv2d, init, Linear } from "../../lib/nn/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

function spread(tensor: Tensor): { mean: number; std: number; bound: number } {
  return torch.scope(() => {
    const values = tensor.detach().to("float64");
    return { mean: values.mean().item(), std: values.std(false).item(), bound: values.abs().max().item() };
  });
}

/** A uniform law on ±bound: nearly reaches the bound, never passes it, and has standard deviation bound / √3. */
function expectUniform(tensor: Tensor, bound: number): void {
  const found = spread(tensor);
  expect(found.bound).toBeLessThanOrEqual(bound * (1 + 1e-6));
  expect(found.bound).toBeGreaterThan(0.98 * bound);
  expect(Math.abs(found.mean)).toBeLessThan((6 * bound) / Math.sqrt(3 * tensor.numel()));
  expect(found.std / (bound / Math.sqrt(3))).toBeCloseTo(1, 1);
}

describe("init", () => {
  test("fans count the kernel", () => {
    using weight = torch.zeros([6, 4, 3, 2]);
    expect(init.fans(weight)).toEqual({ fanIn: 24, fanOut: 36 });
    using vector = torch.zeros([6]);
    expect(() => init.fans(vector)).toThrow(/at least 2 dimensions/);
  });

  test("xavierUniform_", () => {
    using weight = torch.empty([60, 40]);
    expectUniform(init.xavierUniform_(weight), Math.sqrt(6 / 100));
  });

  test("kaimingUniform_ and kaimingNormal_", () => {
    using weight = torch.empty([60, 40, 3, 3]);
    expectUniform(init.kaimingUniform_(weight), Math.sqrt(6 / 360));
    expectUniform(init.kaimingUniform_(weight, { mode: "fanOut", negativeSlope: 1 }), Math.sqrt(3 / 540));
    expect(spread(init.kaimingNormal_(weight, { mode: "fanOut" })).std / Math.sqrt(2 / 540)).toBeCloseTo(1, 1);
  });

  test("constants", () => {
    using weight = torch.empty([3, 2]);
    expect(spread(init.ones_(weight))).toEqual({ mean: 1, std: 0, bound: 1 });
    expect(spread(init.zeros_(weight))).toEqual({ mean: 0, std: 0, bound: 0 });
    expect(spread(init.constant_(weight, 0.5))).toEqual({ mean: 0.5, std: 0, bound: 0.5 });
  });

  test("records nothing and keeps requires_grad", () => {
    using layer = new Linear(3, 2);
    expect([init.normal_(layer.weight, 1, 2).isLeaf, layer.weight.requiresGrad]).toEqual([true, true]);
  });

  test("defaults of Linear and Conv2d are uniform on ±1/√(fan in), the bias too", () => {
    using linear = new Linear(50, 80);
    using conv = new Conv2d(8, 40, 5);
    expectUniform(linear.weight, 1 / Math.sqrt(50));
    expect(spread(linear.bias as Tensor).bound).toBeLessThanOrEqual(1 / Math.sqrt(50));
    expectUniform(conv.weight, 1 / Math.sqrt(200));
    expect(spread(conv.bias as Tensor).bound).toBeLessThanOrEqual(1 / Math.sqrt(200));
  });

  test("draws come from torch's generator", () => {
    const draw = (seed: number): ArrayLike<unknown> => {
      torch.manualSeed(seed);
      using layer = new Linear(4, 4);
      return layer.weight.data();
    };
    expect(draw(3)).toEqual(draw(3));
    expect(draw(3)).not.toEqual(draw(4));
  });
});
