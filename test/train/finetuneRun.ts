/** A fine-tuning small enough for tests: a ViT of two blocks on scikit-learn's digits. */
import { join } from "node:path";
import { writeCheckpoint } from "../../lib/checkpoint/index.js";
import { VisionTransformer, type Encoder } from "../../lib/models/index.js";
import type { EvaluationEntry, StepEntry } from "../../lib/report/index.js";
import * as torch from "../../lib/torch/index.js";
import { finetune, type FinetuneResult } from "../../lib/train/finetune.js";
import type { FinetuneOptions } from "../../lib/train/finetuning/finetuneOptions.js";
import type { SupervisedHooks } from "../../lib/train/runs/supervisedRecorder.js";
import { writeDigits } from "../support/digits.js";

/** Writes the digits, and the encoder to begin with as `encoder.pth`. */
export async function writeFinetuneFiles(folder: string, count: number): Promise<{ data: string; pretrained: string }> {
  const [data, pretrained] = [join(folder, "digits"), join(folder, "encoder.pth")];
  await writeDigits(data, { count, pixels: 16 });
  torch.manualSeed(0);
  using encoder = new VisionTransformer({ imageSize: 16, patchSize: 4, embedDim: 32, depth: 2, numHeads: 4, numClasses: 0 });
  await writeCheckpoint(pretrained, { model: encoder.stateDict() });
  return { data, pretrained };
}

export const quickOptions = {
  numHeads: 4, epochs: 2, warmupEpochs: 1, batchSize: 48, lr: 2e-3, seed: 7, threads: 1, workers: 1, device: "cpu",
} satisfies Partial<FinetuneOptions>;

export interface FinetuneRun {
  result: FinetuneResult;
  steps: StepEntry[];
  evaluations: EvaluationEntry[];
  warnings: string[];
}

/** Runs `finetune`, disposes of the classifier after `look` has seen it, and returns what was told. */
export async function runFinetune(options: FinetuneOptions, hooks: SupervisedHooks = {}, look: (model: Encoder) => void = () => {}): Promise<FinetuneRun> {
  const run = { steps: [] as StepEntry[], evaluations: [] as EvaluationEntry[], warnings: [] as string[] };
  const result = await finetune({ ...quickOptions, ...options }, {
    ...hooks,
    onStep: (step) => {
      run.steps.push(step);
      hooks.onStep?.(step);
    },
    onEvaluation: (evaluation) => void run.evaluations.push(evaluation),
    onWarning: (warning) => void run.warnings.push(warning),
  });
  try {
    look(result.model);
  } finally {
    result.model.dispose();
  }
  return { result, ...run };
}
