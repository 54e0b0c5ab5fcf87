/** Keys, order, shapes, `requires_grad` and the statistics of the first weights, against the reference. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { createModel, ResNet, type Encoder } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import { readJson } from "../support/fixtures.js";

interface Entry {
  key: string;
  shape: number[];
  dtype: string;
  kind: "parameter" | "buffer";
  requires_grad: boolean;
  mean: number;
  std: number;
  min: number;
  max: number;
}

interface Description {
  parameters: number;
  trainable: number;
  parameter_order: string[];
  state_dict: Entry[];
}

const live = torch.memory().tensors;
afterAll(() => expect(torch.memory().tensors).toBe(live));

/** Statistics that must agree with one draw of the reference: population figures of n values lie within 6 standard errors. */
function expectSameLaw(model: Encoder, entries: readonly Entry[]): void {
  const state = model.stateDict();
  for (const { key, mean, std, min, max } of entries) {
    if (key === "pos_embed") continue; // compared exactly elsewhere
    const tensor = state.get(key);
    if (!tensor) throw new Error(`${key} is missing`);
    const n = tensor.numel();
    const [foundMean, foundStd, foundBound] = torch.scope(() => {
      const values = tensor.detach().to("float64");
      return [values.mean().item(), values.std(false).item(), values.abs().max().item()];
    }) as [number, number, number];
    if (std === 0) {
      expect({ key, mean: foundMean, std: foundStd }).toEqual({ key, mean, std });
      continue;
    }
    // Both sides are one draw each. Small tensors have laws whose sample std scatters as 1/sqrt(2n) or less, within this bound.
    const [meanLimit, stdLimit] = [6 * std * Math.sqrt(2 / n), 6 / Math.sqrt(n) + 1e-7];
    const agrees = { key, mean: Math.abs(foundMean - mean) <= meanLimit, std: Math.abs(foundStd / std - 1) <= stdLimit };
    expect(agrees).toEqual({ key, mean: true, std: true });
    // A uniform law's bound is √3 standard deviations; a large draw comes close to it and never passes it.
    const bound = Math.max(-min, max);
    if (n > 10_000 && bound < 1.75 * std) {
      expect({ key, near: foundBound > 0.99 * bound && foundBound < 1.01 * bound }).toEqual({ key, near: true });
    }
  }
}

function describeState(model: Encoder): Omit<Entry, "mean" | "std" | "min" | "max">[] {
  const parameters = new Set(model.namedParameters().map(([key]) => key));
  return [...model.stateDict()].map(([key, tensor]) => ({
    key, shape: tensor.shape, dtype: tensor.dtype, kind: parameters.has(key) ? "parameter" : "buffer", requires_grad: tensor.requiresGrad,
  }));
}

function structure(entries: readonly Entry[]): Omit<Entry, "mean" | "std" | "min" | "max">[] {
  return entries.map(({ key, shape, dtype, kind, requires_grad }) => ({ key, shape, dtype, kind, requires_grad }));
}

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

/** MoCo's base encoders: the backbone's part of the reference, without the projector in the head's place. */
describe.each([
  { file: "init/moco_resnet50.json", arch: "resnet50", headKey: "fc", stopGradConv1: false },
  { file: "init/moco_vit_small.json", arch: "vit_small", headKey: "head", stopGradConv1: false },
  { file: "init/moco_vit_small_stopgrad.json", arch: "vit_small", headKey: "head", stopGradConv1: true },
  { file: "init/moco_vit_conv_small.json", arch: "vit_conv_small", headKey: "head", stopGradConv1: false },
])("backbone of $file", ({ file, arch, headKey, stopGradConv1 }) => {
  const prefix = "base_encoder.";
  const golden = readJson<Description>(file)
    .state_dict.filter(({ key }) => key.startsWith(prefix))
    .map((entry) => ({ ...entry, key: entry.key.slice(prefix.length) }));
  const isBackbone = ({ key }: { key: string }): boolean => !key.startsWith(`${headKey}.`);
  let model: Encoder;
  beforeAll(() => {
    torch.manualSeed(223);
    model = createModel(arch, { stopGradConv1, zeroInitResidual: true });
  });
  afterAll(() => model.dispose());

  test("keys, order, shapes and requires_grad", () => {
    expect(describeState(model).filter(isBackbone)).toEqual(structure(golden.filter(isBackbone)));
    expect(golden.slice(golden.findIndex((entry) => !isBackbone(entry))).some(isBackbone)).toBe(false); // the head is last
  });

  test("statistics of the initial weights", () => expectSameLaw(model, golden.filter(isBackbone)), 60_000);
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
