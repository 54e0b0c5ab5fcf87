/** Features of converted encoders in onnxruntime against ours, and the classifier's outputs against the reference's. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { convertCheckpoint, OrderedDict, writeCheckpoint, type OnnxOptions } from "../../../lib/checkpoint/index.js";
import { loadImages, type ImageSource } from "../../../lib/data/index.js";
import { ResNet, VisionTransformer, type Encoder } from "../../../lib/models/index.js";
import * as torch from "../../../lib/torch/index.js";
import { FeatureExtractor } from "../../../lib/train/features.js";
import { goldenInput, goldenModel } from "../../models/goldenModel.js";
import { maxRelative } from "../../support/digest.js";
import { fixturePath, readNpy } from "../../support/fixtures.js";
import { formulaUnit } from "../../support/formula.js";
import { startOnnxRuntime, type OnnxAnswer } from "../../support/onnxRuntime.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";

const folder = temporaryFolder("onnx");
expectNoTensorsLeft();
const runOnnx = startOnnxRuntime();

/** Writes a model as a checkpoint that tells all about it, and converts that. */
async function convert(name: string, model: Encoder, options: OnnxOptions = {}): Promise<string> {
  const source = join(folder, `${name}.pth`);
  const record = model instanceof VisionTransformer
    ? { num_heads: model.numHeads, image_size: model.imageSize, norm_eps: model.norm.eps } : {};
  await writeCheckpoint(source, { arch: "custom", state_dict: new OrderedDict(model.stateDict()), encoder: { format: 1, ...record } });
  const output = join(folder, `${name}.onnx`);
  await convertCheckpoint(source, output, { to: "onnx", force: true, onnx: options });
  return output;
}

/** Random weights and statistics that leave no part without effect. */
function fill(model: Encoder): Encoder {
  torch.scope(() => torch.noGrad(() => {
    for (const [key, parameter] of model.namedParameters()) {
      const spread = torch.tensor(formulaUnit(key, 1, parameter.numel()), parameter.shape);
      if (parameter.ndim >= 2) parameter.add_(spread.mul(0.02));
      else parameter.copy_(spread.mul(0.3).add(key.endsWith("weight") ? 1 : 0));
    }
    for (const [key, buffer] of model.namedBuffers()) {
      const spread = torch.tensor(formulaUnit(key, 2, buffer.numel()), buffer.shape);
      if (key.endsWith("running_mean")) buffer.copy_(spread.mul(0.2));
      if (key.endsWith("running_var")) buffer.copy_(spread.mul(0.5).add(1));
    }
  }));
  return model.eval();
}

const images = (count: number, [height, width]: readonly [number, number]): { data: Float32Array; dims: number[] } => ({
  data: formulaUnit("images", count, count * 3 * height * width, 2), dims: [count, 3, height, width],
});

function ours(model: Encoder, { data, dims }: { data: Float32Array; dims: number[] }): Float32Array {
  return torch.scope(() => torch.noGrad(() => model.forwardFeatures(torch.tensor(data, dims)).data() as Float32Array));
}

const run = (path: string, input: { data: Float32Array; dims: number[] }): Promise<OnnxAnswer> =>
  runOnnx({ path, name: "images", type: "float32", ...input });

const tiny: { name: string; size?: [number, number]; build: () => Encoder }[] = [
  {
    name: "a ViT of 3 heads",
    build: () => new VisionTransformer({ imageSize: 32, patchSize: 8, embedDim: 24, depth: 3, numHeads: 3, numClasses: 0 }),
  },
  {
    name: "a ViT for images that are not square, with another eps and hidden width", size: [32, 48],
    build: () => new VisionTransformer({
      imageSize: [32, 48], patchSize: 8, embedDim: 20, depth: 1, numHeads: 5, mlpRatio: 3.3, normEps: 1e-2, numClasses: 0,
    }),
  },
  {
    name: "a ViT with a convolutional stem", size: [48, 32],
    build: () => new VisionTransformer({ imageSize: [48, 32], embedDim: 16, depth: 2, numHeads: 4, stem: "conv", numClasses: 0 }),
  },
  { name: "basic blocks", build: () => new ResNet({ block: "basic", layers: [1, 2, 1, 1], width: 4, numClasses: 0 }) },
  { name: "bottlenecks", size: [33, 70], build: () => new ResNet({ block: "bottleneck", layers: [1, 1, 2, 1], width: 4, numClasses: 0 }) },
  {
    name: "a ResNeXt",
    build: () => new ResNet({ block: "bottleneck", layers: [1, 1, 1, 1], width: 16, groups: 4, widthPerGroup: 16, numClasses: 0 }),
  },
  {
    name: "a wide ResNet",
    build: () => new ResNet({ block: "bottleneck", layers: [1, 1, 1, 1], width: 8, widthPerGroup: 128, numClasses: 0 }),
  },
];

describe.each(tiny)("$name", ({ name, size = [32, 32], build }) => {
  test("has our features, whatever the batch", async () => {
    const model = fill(build());
    const path = await convert(name, model);
    for (const count of [1, 3, 8]) {
      const batch = images(count, size);
      const { features } = await run(path, batch);
      expect(features!.dims).toEqual([count, model.featureDim]);
      expect(maxRelative(features!.data, ours(model, batch))).toBeLessThan(1e-5);
    }
    model.dispose();
  });

  test("in half precision and in 8 bits comes near them", async () => {
    const model = fill(build());
    const batch = images(3, size);
    const expected = ours(model, batch);
    for (const [precision, limit] of [["float16", 5e-3], ["int8", 5e-2]] as const) {
      const { features } = await run(await convert(`${name}.${precision}`, model, { precision }), batch);
      const error = maxRelative(features!.data, expected);
      expect({ precision, near: error < limit, error }).toMatchObject({ near: true });
      expect(error).toBeGreaterThan(1e-6); // it is another precision indeed
    }
    model.dispose();
  });
});

test("8-bit features of an image do not depend on what else is in the batch", async () => {
  const model = fill(tiny[0]!.build());
  const path = await convert("alone", model, { precision: "int8" });
  const batch = images(3, [32, 32]);
  batch.data.subarray(0, 3 * 32 * 32).fill(50); // an extreme neighbour
  const { features: together } = await run(path, batch);
  const { features: alone } = await run(path, { data: batch.data.slice(3 * 32 * 32, 6 * 32 * 32), dims: [1, 3, 32, 32] });
  expect(maxRelative(together!.data.slice(24, 48), alone!.data)).toBeLessThan(1e-5);
  model.dispose();
});

test.each(["float16", "bfloat16", "float64"] as const)("a checkpoint in %s is converted from its own values", async (dtype) => {
  for (const { name, size = [32, 32] as const, build } of [tiny[0]!, tiny[4]!]) {
    const model = fill(build()).to(dtype) as Encoder;
    const path = await convert(`${name}.${dtype}`, model);
    model.to("float32");
    const batch = images(2, size);
    expect(maxRelative((await run(path, batch)).features!.data, ours(model, batch))).toBeLessThan(1e-5);
    model.dispose();
  }
});

test("the mean of the patches", async () => {
  const model = fill(tiny[1]!.build());
  const path = await convert("patches", model, { layer: "patches" });
  const batch = images(3, [32, 48]);
  const expected = torch.scope(() => new FeatureExtractor(model, { layer: "patches" }).forward(torch.tensor(batch.data, batch.dims)).data());
  expect(maxRelative((await run(path, batch)).features!.data, expected as Float32Array)).toBeLessThan(1e-5);
  model.dispose();
});

/** A photograph of a temple and one of a flower. */
const files = ["china.jpg", "flower.jpg"].map((name) => fixturePath(`augment/files/${name}`));
const photographs: ImageSource = { length: files.length, image: (index) => files[index]! };
const rendering = { imageSize: 224, resizeShorter: 256 };

/** Full-size models of the golden data with their heads: the reference's own outputs in float64. */
describe.each(["vit_small_full", "vit_conv_small_full", "resnet50_full", "resnet18_full"])("%s", (name) => {
  let model: Encoder;
  let path: string;
  beforeAll(async () => {
    model = await goldenModel(name);
    const { data, shape } = goldenInput(name);
    // The reference's outputs in evaluation come after one forward pass in training, which moves the running statistics.
    torch.scope(() => torch.noGrad(() => void model.train().forward(torch.tensor(data, shape))));
    model.eval();
    path = await convert(name, model, { withHead: true });
  }, 120_000);
  afterAll(() => model.dispose());

  test("logits are the reference's, features ours", async () => {
    const { data, shape } = goldenInput(name);
    const { logits, features } = await run(path, { data, dims: shape });
    expect(maxRelative(logits!.data, readNpy<Float64Array>(`models/${name}/output_eval_f64.npy`).data)).toBeLessThan(1e-5);
    expect(maxRelative(features!.data, ours(model, { data, dims: shape }))).toBeLessThan(1e-5);
  }, 120_000);

  test("on photographs", async () => {
    const batch = await loadImages(photographs, [0, 1], rendering);
    const { features } = await run(path, { data: batch.data() as Float32Array, dims: batch.shape });
    const expected = torch.scope(() => torch.noGrad(() => model.forwardFeatures(batch).data() as Float32Array));
    expect(maxRelative(features!.data, expected)).toBeLessThan(1e-5);
    batch.dispose();
  }, 120_000);

  // One of each kind is enough: the nodes are the same.
  if (name !== "resnet18_full" && name !== "vit_small_full") return;
  test("on photographs that the model normalises", async () => {
    const batch = await loadImages(photographs, [1], rendering);
    const expected = torch.scope(() => torch.noGrad(() => model.forwardFeatures(batch).data() as Float32Array));
    batch.dispose();
    const pixels = await loadImages(photographs, [1], { ...rendering, normalization: { mean: [0, 0, 0], std: [1, 1, 1] } });
    const bytes = torch.scope(() => pixels.mul(255).round().to("uint8").permute([0, 2, 3, 1]).contiguous().data() as Uint8Array);
    const whole = await convert(`${name}.pixels`, model, { preprocess: true });
    const own = await runOnnx({ path: whole, name: "pixels", type: "uint8", data: bytes, dims: [1, 224, 224, 3] });
    expect(maxRelative(own.features!.data, expected)).toBeLessThan(1e-5);
    pixels.dispose();
  }, 120_000);
});
