/** A training small enough for tests: a ViT of two blocks on synthetic images, three steps to an epoch. */
import { VisionTransformer } from "../../lib/models/index.js";
import type { MoCo } from "../../lib/moco/index.js";
import type { StepEntry } from "../../lib/report/index.js";
import { pretrain, type PretrainHooks, type PretrainResult } from "../../lib/train/pretrain.js";
import type { PretrainOptions } from "../../lib/train/pretrainOptions.js";
import { memorySource } from "../data/pixels.js";

export const tinyOptions = {
  data: memorySource(13),
  encoder: (numClasses) =>
    new VisionTransformer({ imageSize: 16, patchSize: 8, embedDim: 16, depth: 2, numHeads: 2, numClasses, stopGradConv1: true }),
  arch: "vit_tiny",
  imageSize: 16,
  dim: 8,
  mlpDim: 16,
  temperature: 0.2,
  mCos: true,
  optimizer: "adamw",
  lr: 1e-3,
  weightDecay: 0.1,
  epochs: 2,
  warmupEpochs: 1,
  batchSize: 4,
  seed: 7,
  threads: 1,
  workers: 1,
  device: "cpu",
} satisfies PretrainOptions;

export const tinyStepsPerEpoch = 3;

/** Runs `pretrain`, disposes of the network after `look` has seen it, and returns what was logged. */
export async function runTiny(
  changes: Partial<PretrainOptions> = {}, hooks: PretrainHooks = {}, look: (moco: MoCo) => void = () => {},
): Promise<{ result: PretrainResult; steps: StepEntry[] }> {
  const steps: StepEntry[] = [];
  const result = await pretrain({ ...tinyOptions, ...changes }, {
    ...hooks,
    onStep: (step) => {
      steps.push(step);
      hooks.onStep?.(step);
    },
  });
  try {
    look(result.moco);
  } finally {
    result.moco.dispose();
  }
  return { result, steps };
}

/** Every parameter and buffer as bytes. */
export function stateBytes(moco: MoCo): Map<string, Uint8Array> {
  return new Map([...moco.stateDict()].map(([key, tensor]) => [key, tensor.bytes()]));
}
