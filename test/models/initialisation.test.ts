/** Keys, order, shapes, `requires_grad` and the statistics of the first weights of the encoders, against the reference. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { createModel, ResNet, type Encoder } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import { readJson } from "../support/fixtures.js";
import { describeState, expectSameLaw, structure, type Description } from "../support/initialState.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

const vits = ["vit_small", "vit_base", "vit_conv_small", "vit_conv_base"].flatMap((arch) => [
  { arch, stopGradConv1: false, file: `init/${arch}.json` },
  { arch, stopGradConv1: true, file: `init/${arch}_stopgrad.json` },
]);

describe.each(vits)("$file", ({ arch, stopGradConv1, file }) => {
  const golden = readJson<Description>(file);
  let model: Encoder;
  beforeAll(() => {
    torch.manualSeed(200);
    model = createModel(arch, { stopGradConv1 });
  });
  afterAll(() => model.dispose());

  test("keys, order, shapes, dtypes and requires_grad", () => {
    expect(describeState(model)).toEqual(structure(golden.state_dict));
    expect(model.namedParameters().map(([key]) => key)).toEqual(golden.parameter_order);
  });

  test("parameter counts", () => {
    const count = (trainable: boolean): number =>
      model.parameters().reduce((sum, p) => sum + (!trainable || p.requiresGrad ? p.numel() : 0), 0);
    expect([count(false), count(true)]).toEqual([golden.parameters, golden.trainable]);
  });

  // The width-768 models follow the same laws as the small ones, at four times the cost of looking.
  if (!arch.endsWith("base")) {
    test("statistics of the initial weights", () => expectSameLaw(model, golden.state_dict), 60_000);
  }
});

test("the same seed gives the same weights, another seed others", () => {
  const build = (seed: number): Map<string, number[]> => {
    torch.manualSeed(seed);
    using model = new ResNet({ block: "basic", layers: [1, 1, 1, 1], width: 4, numClasses: 3 });
    return new Map([...model.stateDict()].map(([key, tensor]) => [key, Array.from(tensor.data() as ArrayLike<number>, Number)]));
  };
  expect(build(7)).toEqual(build(7));
  expect(build(7).get("conv1.weight")).not.toEqual(build(8).get("conv1.weight"));
});
