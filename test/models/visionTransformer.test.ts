/** What the golden data does not show: shapes, options, the head, the pieces of the forward pass, errors, memory. */
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { InputSizeError, ModelConfigError, VisionTransformer, type VisionTransformerOptions } from "../../lib/models/index.js";
import { Linear, Sequential, type StateDict } from "../../lib/nn/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { maxRelative, relativeL2 } from "../support/digest.js";
import { numbers } from "../support/digest.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

const tiny: VisionTransformerOptions = { imageSize: 16, patchSize: 8, embedDim: 16, depth: 2, numHeads: 2, numClasses: 5 };
expectNoTensorsLeft();

describe("VisionTransformer", () => {
  let model: VisionTransformer;
  let images: Tensor;
  beforeEach(() => {
    torch.manualSeed(1);
    model = new VisionTransformer(tiny);
    images = torch.randn([3, 3, 16, 16]);
  });
  afterEach(() => {
    model.dispose();
    images.dispose();
  });

  test("gives class scores, features and tokens", () => {
    torch.scope(() => {
      expect(model.forward(images).shape).toEqual([3, 5]);
      expect(model.forwardFeatures(images).shape).toEqual([3, 16]);
      const patches = model.embedPatches(images);
      expect(patches.shape).toEqual([3, 4, 16]);
      expect(model.forwardTokens(patches).shape).toEqual([3, 5, 16]);
      expect(model.featureDim).toBe(16);
    });
  });

  test("leaves only the result behind", () => {
    const before = torch.memory().tensors;
    const output = model.forward(images);
    expect(torch.memory().tensors).toBe(before + 1);
    output.dispose();
    torch.noGrad(() => model.forwardFeatures(images)).dispose();
    expect(torch.memory().tensors).toBe(before);
  });

  test("the class-token path has the values and gradients of the full one", () => {
    model.to("float64");
    using readout = torch.randn([3, 16], { dtype: "float64" });
    const run = (path: (patches: Tensor) => Tensor): { value: Float64Array; gradients: [string, Float64Array][] } =>
      torch.scope(() => {
        model.zeroGrad();
        const feature = path(model.embedPatches(images.to("float64")));
        feature.mul(readout).sum().backward();
        const gradients = model.namedParameters().flatMap(([key, p]): [string, Float64Array][] => (p.grad ? [[key, numbers(p.grad)]] : []));
        return { value: numbers(feature), gradients };
      });
    const full = run((patches) => model.forwardTokens(patches).select(1, 0));
    const short = run((patches) => model.forwardClassToken(patches));
    expect(maxRelative(short.value, full.value)).toBeLessThan(1e-13);
    expect(short.gradients.map(([key]) => key)).toEqual(full.gradients.map(([key]) => key));
    short.gradients.forEach(([key, found], i) => {
      const expected = full.gradients[i]?.[1] ?? [];
      expect({ key, error: relativeL2(found, expected) < 1e-12 }).toEqual({ key, error: true });
    });
  });

  test("a batch of both views gives what each view gives alone", () => {
    torch.scope(() => {
      const other = torch.randn([3, 3, 16, 16]);
      const together = numbers(model.forwardFeatures(torch.cat([images, other])));
      const apart = [...numbers(model.forwardFeatures(images)), ...numbers(model.forwardFeatures(other))];
      expect(maxRelative(together, apart)).toBeLessThan(1e-5);
    });
  });

  test("patch tokens of a frozen projection carry no gradient and serve two encoders", () => {
    using frozen = new VisionTransformer({ ...tiny, stopGradConv1: true });
    using momentum = new VisionTransformer({ ...tiny, stopGradConv1: true });
    momentum.loadStateDict(frozen.stateDict());
    torch.scope(() => {
      expect(frozen.patchEmbed.frozen).toBe(true);
      const patches = frozen.embedPatches(images);
      expect(patches.requiresGrad).toBe(false);
      expect(numbers(momentum.forwardClassToken(patches))).toEqual(numbers(momentum.forwardFeatures(images)));
      frozen.forwardClassToken(patches).sum().backward();
    });
    expect(frozen.namedParameters().filter(([, p]) => p.grad === null).map(([key]) => key)).toEqual([
      "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "head.weight", "head.bias",
    ]);
  });

  test("a convolutional stem ignores stopGradConv1", () => {
    using conv = new VisionTransformer({ ...tiny, imageSize: 32, patchSize: 16, stem: "conv", stopGradConv1: true });
    expect(conv.patchEmbed.frozen).toBe(false);
    expect(conv.namedParameters().filter(([, p]) => !p.requiresGrad).map(([key]) => key)).toEqual(["pos_embed"]);
  });

  test("the head is replaced in its place", () => {
    const keys = (state: StateDict): string[] => [...state.keys()];
    const backbone = keys(model.stateDict()).filter((key) => !key.startsWith("head."));
    model.replaceHead((dim) => new Sequential(new Linear(dim, 4, { bias: false })));
    expect(keys(model.stateDict())).toEqual([...backbone, "head.0.weight"]);
    torch.scope(() => expect(model.forward(images).shape).toEqual([3, 4]));
  });

  test("takes any image size, patch size, width, depth and number of heads", () => {
    using wide = new VisionTransformer({
      imageSize: [24, 36], patchSize: 12, embedDim: 20, depth: 1, numHeads: 5, mlpRatio: 1.5, numClasses: 0,
    });
    torch.scope(() => expect(wide.forward(torch.randn([2, 3, 24, 36])).shape).toEqual([2, 20]));
    expect(wide.stateDict().get("blocks.0.mlp.fc1.weight")?.shape).toEqual([30, 20]);
    expect(wide.stateDict().get("pos_embed")?.shape).toEqual([1, 7, 20]);
  });

  test("images of another size are refused, with the remedy", () => {
    torch.scope(() => {
      const large = torch.randn([2, 3, 24, 24]);
      expect(() => model.forward(large)).toThrow(InputSizeError);
      expect(() => model.forward(large)).toThrow(/\[N, 3, 16, 16\] and got shape \[2,3,24,24\].*imageSize: \[24, 24\]/);
      expect(() => model.forward(torch.randn([3, 16, 16]))).toThrow(InputSizeError);
      expect(() => model.forward(torch.randn([2, 1, 16, 16]))).toThrow(InputSizeError);
    });
  });

  test.each<[string, VisionTransformerOptions, RegExp]>([
    ["an image size that patches do not divide", { imageSize: 20 }, /imageSize 20x20 is not divisible by patchSize 8.*24x24/],
    ["heads that do not divide the width", { numHeads: 3 }, /embedDim 16 is not divisible by numHeads 3/],
    ["a width that 4 does not divide", { embedDim: 18 }, /embedDim is 18.*multiple of 4/],
    ["a convolutional stem with another patch size", { stem: "conv" }, /patchSize is 8.*16/],
    ["a convolutional stem whose width 8 does not divide", { stem: "conv", patchSize: 16, embedDim: 12 }, /embedDim is 12.*by 8. Use 16/],
    ["no block", { depth: 0 }, /depth is 0/],
    ["half a head", { numHeads: 1.5 }, /numHeads is 1.5/],
    ["a negative number of classes", { numClasses: -1 }, /numClasses is -1/],
    ["an MLP without units", { mlpRatio: 0 }, /mlpRatio is 0/],
  ])("refuses %s", (_, options, message) => {
    const before = torch.memory().tensors;
    expect(() => new VisionTransformer({ ...tiny, ...options })).toThrow(ModelConfigError);
    expect(() => new VisionTransformer({ ...tiny, ...options })).toThrow(message);
    expect(torch.memory().tensors).toBe(before);
  });
});
