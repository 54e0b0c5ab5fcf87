/** Stochastic depth and the truncated normal law, against timm and PyTorch under the same seed. */
import { expect, test } from "@jest/globals";
import { VisionTransformer } from "../../lib/models/index.js";
import { dropPath, init } from "../../lib/nn/index.js";
import * as torch from "../../lib/torch/index.js";
import { numbers } from "../support/digest.js";
import { readNpz } from "../support/fixtures.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();
const arrays = readNpz<Float32Array>("finetune/parts.npz");

test("dropPath drops and scales the samples that timm's does under the same seed", () => {
  const { data, shape } = arrays.get("branch")!;
  torch.scope(() => {
    const branch = torch.tensor(data, shape).requiresGrad_();
    torch.manualSeed(4);
    const kept = dropPath(branch, 0.3);
    expect([...numbers(kept)]).toEqual([...Float64Array.from(arrays.get("branch_dropped")!.data)]);
    kept.sum().backward();
    // The gradient is the factor of each sample: 0, or 1 / 0.7.
    const factors = new Set((branch.grad!.toArray() as number[][][]).flat(2));
    expect([...factors].sort()).toEqual([0, Math.fround(1 / Math.fround(0.7))]);
    branch.grad = null;
  });
});

test("truncNormal_ is PyTorch's under the same seed, and cuts off", () => {
  torch.scope(() => {
    torch.manualSeed(3);
    const weight = init.truncNormal_(torch.empty([6, 5]), 0, 0.02);
    const expected = arrays.get("trunc_normal")!.data;
    numbers(weight).forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 8));
    const cut = init.truncNormal_(torch.empty([10_000]), 1, 1, 0.5, 2);
    expect(cut.min().item()).toBeGreaterThanOrEqual(0.5);
    expect(cut.max().item()).toBeLessThanOrEqual(2);
    // Mean of a normal law cut off at -0.5 and 1 standard deviations.
    expect(cut.mean().item()).toBeCloseTo(1 + (0.35207 - 0.24197) / (0.84134 - 0.30854), 1);
  });
});

test("the rate grows linearly with depth; evaluation and a rate of 0 drop nothing", () => {
  const sizes = { imageSize: 8, patchSize: 4, embedDim: 8, depth: 3, numHeads: 2, numClasses: 2 };
  const model = new VisionTransformer({ ...sizes, dropPath: 0.5 });
  expect(model.blocks.layers.map((block) => (block as unknown as { dropPath: number }).dropPath)).toEqual([0, 0.25, 0.5]);
  const plain = new VisionTransformer(sizes);
  plain.loadStateDict(model.stateDict());
  torch.scope(() => torch.noGrad(() => {
    const images = torch.randn([6, 3, 8, 8]);
    const expected = plain.forward(images);
    const state = torch.getRngState();
    expect(torch.equal(plain.train().forward(images), expected)).toBe(true);
    expect(torch.equal(torch.getRngState(), state)).toBe(true); // nothing was drawn
    expect(torch.equal(model.eval().forward(images), expected)).toBe(true);
    const [first, second] = [1, 1].map(() => {
      torch.manualSeed(1);
      return model.train().forward(images);
    });
    expect(torch.equal(first!, second!)).toBe(true);
    expect(torch.equal(first!, expected)).toBe(false);
    // Training the class token alone in the last block drops what training all tokens does.
    torch.manualSeed(1);
    const tokens = model.forwardTokens(model.embedPatches(images)).select(1, 0);
    torch.manualSeed(1);
    expect(model.forwardFeatures(images).sub(tokens).abs().max().item()).toBeLessThan(1e-5);
  }));
  model.dispose();
  plain.dispose();
});
