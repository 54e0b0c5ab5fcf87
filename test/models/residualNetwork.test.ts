/** ResNet options, names and errors beyond the golden data. */
import { describe, expect, test } from "@jest/globals";
import { ModelConfigError, ResNet, type ResNetOptions } from "../../lib/models/index.js";
import { Linear } from "../../lib/nn/index.js";
import * as torch from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

const tiny: ResNetOptions = { block: "bottleneck", layers: [1, 1, 1, 1], width: 4, numClasses: 3 };

describe("ResNet", () => {
  test("gives scores and features for any image size", () => {
    using model = new ResNet(tiny);
    torch.scope(() => {
      expect(model.featureDim).toBe(128);
      expect(model.forward(torch.randn([2, 3, 32, 32])).shape).toEqual([2, 3]);
      expect(model.eval().forwardFeatures(torch.randn([1, 3, 48, 80])).shape).toEqual([1, 128]);
    });
  });

  test("leaves only the result behind, and its input as it was", () => {
    using model = new ResNet(tiny);
    using images = torch.randn([2, 3, 32, 32]);
    const pixels = images.data();
    const before = torch.memory().tensors;
    model.forward(images).dispose();
    expect(torch.memory().tensors).toBe(before);
    expect(images.data()).toEqual(pixels);
  });

  test("zeroInitResidual zeroes the last gamma of every block and nothing else", () => {
    for (const [block, last] of [["basic", "bn2"], ["bottleneck", "bn3"]] as const) {
      using model = new ResNet({ ...tiny, block, zeroInitResidual: true });
      const gammas = [...model.stateDict()].filter(([key]) => /bn\d\.weight|downsample.1.weight/.test(key));
      const zero = gammas.filter(([, tensor]) => tensor.data().every((x) => x === 0));
      expect(zero.map(([key]) => key)).toEqual([1, 2, 3, 4].map((stage) => `layer${stage}.0.${last}.weight`));
    }
  });

  test("groups and width per group follow ResNeXt", () => {
    using model = new ResNet({ ...tiny, width: 64, groups: 32, widthPerGroup: 4 });
    expect(model.stateDict().get("layer1.0.conv2.weight")?.shape).toEqual([128, 4, 3, 3]);
  });

  test("fc is the head", () => {
    using model = new ResNet(tiny);
    expect(model.fc).toBe(model.head);
    const former = model.fc;
    model.fc = new Linear(model.featureDim, 7);
    former.dispose();
    expect(model.stateDict().get("fc.weight")?.shape).toEqual([7, 128]);
  });

  test.each<[string, Partial<ResNetOptions>, RegExp]>([
    ["three stages", { layers: [1, 1, 1] }, /four numbers of blocks/],
    ["an empty stage", { layers: [1, 0, 1, 1] }, /layers is 0/],
    ["no width", { width: 0 }, /width is 0/],
    ["groups in basic blocks", { block: "basic", groups: 2 }, /basic blocks have neither/],
    ["a block without channels", { width: 4, groups: 2, widthPerGroup: 4 }, /has no channel/],
  ])("refuses %s", (_, options, message) => {
    const before = torch.memory().tensors;
    expect(() => new ResNet({ ...tiny, ...options })).toThrow(ModelConfigError);
    expect(() => new ResNet({ ...tiny, ...options })).toThrow(message);
    expect(torch.memory().tensors).toBe(before);
  });
});
