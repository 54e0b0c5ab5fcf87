/** Builds the models of `test/fixtures/models` and runs them once as the golden data was made. */
import { readCheckpoint } from "../../lib/checkpoint/index.js";
import { createModel, ResNet, VisionTransformer, type Encoder } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { numbers, type Digest } from "../support/digest.js";
import { fixturePath, readJson, readNpy } from "../support/fixtures.js";
import { formulaParameter, formulaUnit } from "../support/formula.js";

export interface GoldenSizes {
  kind: "vit" | "vit_arch" | "resnet";
  arch?: string;
  stem?: boolean;
  stop?: boolean;
  img: number;
  patch?: number;
  dim?: number;
  depth?: number;
  heads?: number;
  div?: number;
  classes: number;
  N: number;
  /** Seed of the formula weights and input; absent where the fixture has them as files. */
  formula?: number;
  damp?: [string, number];
}

export interface GoldenDigests {
  loss: number;
  grads: Record<string, Digest>;
  buffers_after: Record<string, Digest>;
}

export type Precision = "float32" | "float64";

/** What one training step's forward and backward pass gave. Arrays are in C order. */
export interface GoldenRun {
  loss: number;
  output: Float64Array;
  features: Float64Array;
  /** Of a ViT only. */
  tokens: Float64Array | null;
  gradients: Map<string, Float64Array>;
  buffers: Map<string, Float64Array>;
  outputEval: Float64Array;
}

export function sizesOf(name: string): GoldenSizes {
  return readJson<{ hyper_parameters: GoldenSizes }>(`models/${name}/manifest.json`).hyper_parameters;
}

function buildModel(sizes: GoldenSizes): Encoder {
  const { kind, arch = "", img, classes } = sizes;
  if (kind === "vit") {
    const { patch, dim, depth, heads, stem, stop } = sizes;
    return new VisionTransformer({
      imageSize: img, patchSize: patch, embedDim: dim, depth, numHeads: heads, numClasses: classes,
      stem: stem ? "conv" : "patch", stopGradConv1: stop,
    });
  }
  if (sizes.div !== undefined) {
    const width = 64 / sizes.div;
    return arch === "resnet18"
      ? new ResNet({ block: "basic", layers: [2, 2, 2, 2], width, numClasses: classes })
      : new ResNet({ block: "bottleneck", layers: [3, 4, 6, 3], width, numClasses: classes });
  }
  return createModel(arch, { imageSize: img, numClasses: classes });
}

/** Builds the model of the fixture `name` with its weights. The caller disposes of it. */
export async function goldenModel(name: string): Promise<Encoder> {
  const sizes = sizesOf(name);
  const model = buildModel(sizes);
  if (sizes.formula !== undefined) {
    for (const [key, parameter] of model.namedParameters()) {
      if (key === "pos_embed") continue;
      const values = formulaParameter(key, parameter.shape, sizes.formula, sizes.damp);
      torch.noGrad(() => torch.scope(() => void parameter.copy_(torch.tensor(values, parameter.shape))));
    }
    return model;
  }
  const file = await readCheckpoint(fixturePath(`models/${name}/state.pth`));
  const { state_dict: state } = file as unknown as { state_dict: Map<string, Tensor> };
  model.loadStateDict(state);
  for (const tensor of state.values()) tensor.dispose();
  return model;
}

/** The fixture's images, `[N, 3, img, img]`. */
export function goldenInput(name: string): { data: Float32Array; shape: number[] } {
  const { N, img, formula } = sizesOf(name);
  const shape = [N, 3, img, img];
  if (formula === undefined) return readNpy<Float32Array>(`models/${name}/input.npy`);
  return { data: formulaUnit("input", formula, N * 3 * img * img, 2), shape };
}

/** One forward pass in training mode, backward of sum(output * w), then a forward pass in evaluation mode. */
export async function runGolden(name: string, precision: Precision, device = "cpu"): Promise<GoldenRun> {
  const model = await goldenModel(name);
  model.to(precision).to(device).train();
  try {
    return torch.scope(() => {
      const input = goldenInput(name);
      const images = torch.tensor(input.data, input.shape).to({ dtype: precision, device });
      const weights = readNpy<Float32Array>(`models/${name}/w.npy`);
      let features: Tensor;
      let tokens: Tensor | null = null;
      if (model instanceof VisionTransformer) {
        const patches = model.embedPatches(images);
        features = model.forwardClassToken(patches);
        tokens = torch.noGrad(() => model.forwardTokens(patches));
      } else {
        features = model.forwardFeatures(images);
      }
      const output = model.head.forward(features);
      const loss = output.mul(torch.tensor(weights.data, weights.shape).to({ dtype: precision, device })).sum();
      loss.backward();
      const gradients = new Map<string, Float64Array>();
      for (const [key, parameter] of model.namedParameters()) if (parameter.grad) gradients.set(key, numbers(parameter.grad));
      const buffers = new Map(model.namedBuffers().map(([key, buffer]) => [key, numbers(buffer)]));
      const outputEval = torch.noGrad(() => model.eval().forward(images));
      return {
        loss: Number(loss.item()), output: numbers(output), features: numbers(features), tokens: tokens && numbers(tokens),
        gradients, buffers, outputEval: numbers(outputEval),
      };
    });
  } finally {
    model.dispose();
  }
}
