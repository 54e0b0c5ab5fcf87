import type { Tensor } from "../torch/index.js";
import type { Encoder } from "./encoder.js";
import { ModelConfigError } from "./errors.js";
import { createModel } from "./registry.js";
import { VisionTransformer, type VisionTransformerOptions } from "./vit.js";

/**
 * Builds the encoder that a backbone's state dict belongs to, without a classifier, and loads it. Keys of a head (`head.*`, `fc.*`) are passed
 * over.
 *
 * A ViT's sizes are read off the shapes, except the number of heads, which leaves no trace in them: it is `numHeads`, 12 in all of MoCo v3's
 * models. A ResNet needs its architecture's name.
 *
 * @throws ModelConfigError when the tensors are of neither, or of a ResNet without a name; StateDictError when they do not fit
 */
export function encoderFromStateDict(state: ReadonlyMap<string, Tensor>, options: { arch?: string | null; numHeads?: number } = {}): Encoder {
  const encoder = state.has("pos_embed") ? new VisionTransformer(visionTransformerSizes(state, options.numHeads ?? 12)) : residualNetwork(state, options.arch);
  const backbone = new Map([...state].filter(([key]) => !key.startsWith(`${encoder.headKey}.`)));
  encoder.loadStateDict(backbone);
  return encoder;
}

function residualNetwork(state: ReadonlyMap<string, Tensor>, arch: string | null | undefined): Encoder {
  if (!state.has("layer1.0.conv1.weight")) {
    throw new ModelConfigError(`the tensors (${[...state.keys()].slice(0, 3).join(", ")}, ...) are of neither a ViT nor a ResNet; give a checkpoint of one of these.`);
  }
  if (!arch) throw new ModelConfigError("a ResNet's state dict does not tell which it is: give its architecture, such as resnet50.");
  return createModel(arch, { numClasses: 0 });
}

function visionTransformerSizes(state: ReadonlyMap<string, Tensor>, numHeads: number): VisionTransformerOptions {
  const shape = (key: string): number[] => {
    const tensor = state.get(key);
    if (!tensor) throw new ModelConfigError(`the ViT's state dict has no "${key}": give the whole backbone.`);
    return tensor.shape;
  };
  const [, tokens, embedDim] = shape("pos_embed") as [number, number, number];
  const stem = state.has("patch_embed.proj.0.weight") ? "conv" : "patch";
  const patchSize = stem === "conv" ? 16 : (shape("patch_embed.proj.weight")[2] as number);
  const grid = Math.sqrt(tokens - 1);
  if (!Number.isInteger(grid)) {
    throw new ModelConfigError(`the ViT has ${tokens - 1} positions, which are no square grid: build a VisionTransformer of your imageSize and load it.`);
  }
  const depth = new Set([...state.keys()].flatMap((key) => /^blocks\.(\d+)\./.exec(key)?.[1] ?? [])).size;
  const mlpRatio = (shape("blocks.0.mlp.fc1.weight")[0] as number) / embedDim;
  return { imageSize: grid * patchSize, patchSize, embedDim, depth, numHeads, mlpRatio, numClasses: 0, stem };
}
