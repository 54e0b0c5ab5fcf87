import { LabelledDataError, openLabelledSplits, partOf } from "../../data/index.js";
import type { EvaluationEntry } from "../../report/index.js";
import * as torch from "../../torch/index.js";
import { findCheckpoint } from "../runs/checkpointFiles.js";
import { savedAverage, savedClassifier } from "./classifier.js";
import type { Evaluation } from "../evaluateClassifier.js";
import { evaluationInterpolation, resolveFinetuneOptions, type FinetuneOptions } from "./finetuneOptions.js";
import { Ranks } from "../ranks/ranks.js";
import { evaluateTogether } from "../ranks/sharedEvaluation.js";
import { SavedSupervised } from "../runs/supervisedState.js";
import type { SupervisedHooks } from "../runs/supervisedRecorder.js";

/** What is evaluated, and how; `resume` leads to the classifier. */
export type EvaluateFinetunedOptions = FinetuneOptions & { resume: string };

/** How good a fine-tuned classifier is, and its moving average where there is one. */
export interface FinetunedEvaluation extends Evaluation {
  /** Path of the checkpoint. */
  checkpoint: string;
  /** Epochs that it was trained for; null where it does not tell. */
  epochs: number | null;
  /** The same of the moving average of its weights, where the checkpoint has one. */
  average?: EvaluationEntry["average"];
}

/**
 * Evaluates a fine-tuned classifier, or a linear probe, on a data set's images to judge by; at another image size too.
 *
 * @returns null where `signal` was aborted before the end
 * @throws the errors of `finetune`; LabelledDataError where the data set has no images to judge by
 * @example
 * const found = await evaluateFinetuned({ data: "flowers", resume: "runs/flowers/model_best.pth.tar" });
 */
export async function evaluateFinetuned(
  options: EvaluateFinetunedOptions, hooks: Pick<SupervisedHooks, "onEvaluationBatch" | "onWarning" | "signal"> = {},
): Promise<FinetunedEvaluation | null> {
  const recipe = resolveFinetuneOptions(options);
  if (recipe.threads !== null) torch.setNumThreads(recipe.threads);
  const { data, val: valPath, numClasses, images: length, shuffleBuffer } = options;
  using ranks = new Ranks(options.group, { maxBad: recipe.maxBad, signal: hooks.signal });
  const { classes, val } = await ranks.together(async () => {
    const splits = typeof data === "string" ? await openLabelledSplits(data, { val: valPath, numClasses, length, shuffleBuffer }) : data;
    if (splits.val === null) throw new LabelledDataError("there are no images to judge by: add val/ beside train/, or give some (val, --val)");
    return { classes: splits.classes, val: partOf(splits.val, ranks.rank, ranks.size) };
  });
  const checkpoint = await ranks.together(() => findCheckpoint(options.resume));
  using saved = await ranks.together(() => SavedSupervised.read(checkpoint));
  const judge = async (average: boolean): Promise<Evaluation | null> => {
    const { model, imageSize, notes } = await ranks.together(() => savedClassifier(saved, { ...recipe, classes, train: false, average }));
    using network = model;
    for (const note of average ? [] : notes) hooks.onWarning?.(note);
    return await evaluateTogether(network.to(recipe.device), val, {
      ...recipe, numClasses: classes.length, imageSize, interpolation: evaluationInterpolation(recipe), signal: hooks.signal,
      onBatch: (done) => hooks.onEvaluationBatch?.(done, val.length),
    }, ranks);
  };
  const found = await judge(false);
  if (found === null) return null;
  const result: FinetunedEvaluation = { ...found, checkpoint, epochs: saved.position?.epoch ?? null };
  if (savedAverage(saved) === null) return result;
  const average = await judge(true);
  return average && { ...result, average: { acc1: average.acc1, acc5: average.acc5, loss: average.loss } };
}
