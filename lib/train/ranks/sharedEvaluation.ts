import type { ImageSource, ImageStream } from "../../data/index.js";
import type { Module } from "../../nn/index.js";
import { evaluateClassifier, type EvaluateOptions, type Evaluation } from "../evaluateClassifier.js";
import type { Ranks } from "./ranks.js";

/**
 * The figures over the images of all ranks, from those of each rank's part.
 *
 * @param own null where this rank was told to stop
 * @returns null where any was
 */
function evaluationOfAll(own: Evaluation | null, ranks: Ranks): Evaluation | null {
  if (ranks.size === 1) return own;
  if (ranks.any(own === null) || own === null) return null;
  const [images, correct1, correct5, loss] = ranks.sums(sumsOf(own)) as [number, number, number, number];
  return { images, acc1: (100 * correct1) / images, acc5: (100 * correct5) / images, loss: loss / images, bad: ranks.listOfAll(own.bad) };
}

/**
 * Evaluates a classifier that all ranks have on the images of all.
 *
 * @param own this rank's images
 * @returns null where any rank was told to stop
 * @throws what `evaluateClassifier` throws; RankError where another rank's fails
 */
export async function evaluateTogether(
  classifier: Module, own: ImageSource | ImageStream, options: EvaluateOptions, ranks: Ranks,
): Promise<Evaluation | null> {
  return evaluationOfAll(await ranks.together(() => evaluateClassifier(classifier, own, options)), ranks);
}

/** Whole numbers of images, which the percentages are of. */
function sumsOf({ images, acc1, acc5, loss }: Evaluation): number[] {
  return [images, Math.round((acc1 * images) / 100), Math.round((acc5 * images) / 100), loss * images];
}
