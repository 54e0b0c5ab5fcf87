/** Keys, order, shapes, `requires_grad` and the statistics of the first weights of the whole of MoCo, against the reference. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { createMoCo, type MoCo } from "../../lib/moco/index.js";
import * as torch from "../../lib/torch/index.js";
import { readJson } from "../support/fixtures.js";
import { describeState, expectSameLaw, structure, type Description } from "../support/initialState.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

const cases = [
  { name: "moco_vit_small", encoder: "vit_small", stopGradConv1: false, temperature: 0.2 },
  { name: "moco_vit_small_stopgrad", encoder: "vit_small", stopGradConv1: true, temperature: 0.2 },
  { name: "moco_vit_conv_small", encoder: "vit_conv_small", stopGradConv1: false, temperature: 0.2 },
  { name: "moco_resnet50", encoder: "resnet50", stopGradConv1: false, temperature: 1 },
];

describe.each(cases)("$name", ({ name, ...options }) => {
  const golden = readJson<Description>(`init/${name}.json`);
  let moco: MoCo;
  beforeAll(() => {
    torch.manualSeed(221);
    moco = createMoCo(options);
  });
  afterAll(() => moco.dispose());

  test("keys, order, shapes, dtypes and requires_grad", () => {
    expect(describeState(moco)).toEqual(structure(golden.state_dict));
    expect(moco.namedParameters().map(([key]) => key)).toEqual(golden.parameter_order);
  });

  test("parameter counts", () => {
    const count = (list: readonly torch.Tensor[]): number => list.reduce((sum, parameter) => sum + parameter.numel(), 0);
    const parameters = moco.parameters();
    expect([count(parameters), count(parameters.filter(({ requiresGrad }) => requiresGrad))]).toEqual([golden.parameters, golden.trainable]);
  });

  test("first weights follow the reference's laws, and the momentum encoder starts as a copy", () => {
    expectSameLaw(moco, golden.state_dict);
    const [base, momentum] = [moco.baseEncoder.parameters(), moco.momentumEncoder.parameters()];
    expect(base.every((parameter, i) => torch.equal(parameter, momentum[i] as torch.Tensor))).toBe(true);
  });
});
