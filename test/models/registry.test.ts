/** Architectures by name. Parameter counts of the ResNets are torchvision's published ones. */
import { describe, expect, test } from "@jest/globals";
import { architectures, createModel, ResNet, UnknownArchitectureError, VisionTransformer } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

describe("createModel", () => {
  test.each([
    ["resnet18", 11689512], ["resnet34", 21797672], ["resnet50", 25557032], ["resnet101", 44549160], ["resnet152", 60192808],
    ["resnext50_32x4d", 25028904], ["resnext101_32x8d", 88791336], ["wide_resnet50_2", 68883240], ["wide_resnet101_2", 126886696],
  ])("%s has %d parameters", (arch, count) => {
    using model = createModel(arch);
    expect(model).toBeInstanceOf(ResNet);
    expect(model.parameters().reduce((sum, p) => sum + p.numel(), 0)).toBe(count);
  });

  test("options reach the model", () => {
    using model = createModel("vit_small", { imageSize: [32, 48], numClasses: 7, stopGradConv1: true });
    expect(model).toBeInstanceOf(VisionTransformer);
    expect(model.stateDict().get("pos_embed")?.shape).toEqual([1, 7, 384]);
    expect(model.stateDict().get("head.weight")?.shape).toEqual([7, 384]);
    expect(model.stateDict().get("patch_embed.proj.weight")?.requiresGrad).toBe(false);
  });

  test("numClasses 0 leaves the features", () => {
    using model = createModel("resnet18", { numClasses: 0 });
    expect([...model.stateDict().keys()].some((key) => key.startsWith("fc."))).toBe(false);
    torch.scope(() => expect(model.eval().forward(torch.randn([1, 3, 32, 32])).shape).toEqual([1, 512]));
  });

  test("an unknown name is refused with the nearest ones and the list", () => {
    expect(() => createModel("vit_smal")).toThrow(UnknownArchitectureError);
    expect(() => createModel("vit_smal")).toThrow(/"vit_smal".*vit_small.*Known: .*wide_resnet101_2/);
    expect(() => createModel("ResNet-50")).toThrow(/mean resnet50/);
    expect(() => createModel("constructor")).toThrow(UnknownArchitectureError);
    expect(architectures).toContain("vit_conv_base");
  });
});
