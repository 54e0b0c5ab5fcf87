/** Linear probes small enough for tests, of tiny encoders on scikit-learn's digits. */
import { join } from "node:path";
import { addPrefix, writeCheckpoint } from "../../lib/checkpoint/index.js";
import { ResNet, VisionTransformer, type Encoder } from "../../lib/models/index.js";
import type { EvaluationEntry, StepEntry } from "../../lib/report/index.js";
import * as torch from "../../lib/torch/index.js";
import { linearProbe, type LinearProbeHooks, type LinearProbeResult } from "../../lib/train/linear.js";
import type { LinearProbeOptions } from "../../lib/train/linearProbe/linearOptions.js";

export const vit = (): Encoder => new VisionTransformer({ imageSize: 16, patchSize: 8, embedDim: 24, depth: 1, numHeads: 3, numClasses: 0 });
export const resnet = (): Encoder => new ResNet({ block: "basic", layers: [1, 1, 1, 1], width: 4, numClasses: 0 });

/** Writes what pre-training leaves of an encoder, as far as others read it; returns the path. */
export async function writeEncoder(folder: string, build: () => Encoder, { name = "encoder.pth.tar", seed = 1, spoil = (_: Encoder) => {} } = {}): Promise<string> {
  torch.manualSeed(seed);
  using encoder = build();
  spoil(encoder);
  const state = new Map([...encoder.stateDict()].map(([key, tensor]) => [`base_encoder.${key}`, tensor]));
  const path = join(folder, name);
  const own = encoder instanceof VisionTransformer ? { moco_v3_run: { num_heads: encoder.numHeads } } : {};
  await writeCheckpoint(path, { epoch: 1, arch: "tiny", state_dict: addPrefix(state), ...own });
  return path;
}

export const tinyProbe = { epochs: 2, batchSize: 32, baseLr: 1, seed: 5, threads: 1, workers: 1, device: "cpu" } satisfies Partial<LinearProbeOptions>;

export interface ProbeRun {
  result: LinearProbeResult;
  steps: StepEntry[];
  evaluations: EvaluationEntry[];
  warnings: string[];
}

/** Runs a probe, disposes of the model after `look` has seen it, and returns what was told. */
export async function runProbe(
  options: LinearProbeOptions, hooks: LinearProbeHooks = {}, look: (model: Encoder) => void | Promise<void> = () => {},
): Promise<ProbeRun> {
  const [steps, evaluations, warnings]: [StepEntry[], EvaluationEntry[], string[]] = [[], [], []];
  const result = await linearProbe({ ...tinyProbe, ...(options.sweep ? { baseLr: undefined } : {}), ...options }, {
    ...hooks,
    onStep: (step) => {
      steps.push(step);
      hooks.onStep?.(step);
    },
    onEvaluation: (evaluation) => void evaluations.push(evaluation),
    onWarning: (message) => void warnings.push(message),
  });
  try {
    await look(result.model);
  } finally {
    result.model.dispose();
  }
  return { result, steps, evaluations, warnings };
}
