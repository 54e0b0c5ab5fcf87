import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { ConvertError } from "../../lib/checkpoint/index.js";
import { encoderFromFile, encoderFromStateDict, ModelConfigError, VisionTransformer } from "../../lib/models/index.js";
import { StateDictError } from "../../lib/nn/index.js";
import * as torch from "../../lib/torch/index.js";

let before: number;
beforeAll(() => {
  before = torch.memory().tensors;
});
afterAll(() => expect(torch.memory().tensors).toBe(before));

const wide = {
  imageSize: [16, 24] as const, patchSize: 8, embedDim: 24, depth: 2, numHeads: 3, mlpRatio: 2.3, normEps: 0.1, numClasses: 5,
};

describe("an encoder from a state dict", () => {
  test("is the model that the state is from, once it is told what the tensors do not tell", () => {
    const model = new VisionTransformer(wide).eval();
    torch.scope(() => torch.noGrad(() => {
      // Learned positions must come along, and nothing may depend on the initial values.
      for (const [, parameter] of model.namedParameters()) parameter.copy_(torch.randn(parameter.shape).mul(0.3));
      const state = model.stateDict();
      const images = torch.randn([2, 3, 16, 24]);
      const { numHeads, imageSize, normEps } = wide;
      const expected = model.forwardFeatures(images);
      const features = (options: object): torch.Tensor => {
        const encoder = encoderFromStateDict(state, options).eval();
        const result = encoder.forwardFeatures(images);
        encoder.dispose();
        return result;
      };
      expect(torch.equal(features({ numHeads, imageSize, normEps }), expected)).toBe(true);
      for (const options of [{ numHeads: 6, imageSize, normEps }, { numHeads, imageSize }]) {
        expect(features(options).sub(expected).abs().max().item()).toBeGreaterThan(1e-3);
      }
      expect(() => encoderFromStateDict(state, { numHeads })).toThrow(/6 positions, which are no square grid: give its imageSize/);
      expect(() => encoderFromStateDict(state, { numHeads: 5, imageSize })).toThrow(ModelConfigError);
    }));
    model.dispose();
  });

  test("is refused where the heads are unknown, the tensors do not fit, or belong to no encoder", () => {
    const model = new VisionTransformer({ ...wide, imageSize: 16, numClasses: 0 });
    const state = model.stateDict();
    const spec = { arch: null, imageSize: [16, 16] as [number, number], normEps: 1e-6, notes: [], numHeads: null };
    const sizes = { family: "vit" as const, width: 24, depth: 2, patchSize: 8, positions: 4, stem: "patch" as const, mlpRatio: 2 };
    expect(() => encoderFromFile({ backbone: state, spec: { ...spec, sizes } })).toThrow(/heads of the ViT of width 24 is unknown/);
    const torn = new Map(state).set("blocks.1.attn.qkv.weight", state.get("norm.bias")!);
    expect(() => encoderFromStateDict(torn, { numHeads: 3 })).toThrow(StateDictError);
    expect(() => encoderFromStateDict(new Map([["a", state.get("norm.bias")!]]))).toThrow(ConvertError);
    model.dispose();
  });
});
