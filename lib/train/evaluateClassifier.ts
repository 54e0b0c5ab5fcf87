import {
  evaluationBatches, evaluationResize, requireLabels, TooManyBadImagesError, type BadImage, type ImageSource, type ImageStream,
  type Interpolation,
} from "../data/index.js";
import type { Module } from "../nn/index.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { createAutocast, type Precision } from "./options.js";

/** How a classifier is judged. */
export interface EvaluateOptions {
  /** Classes that labels count. The classifier may have more outputs, as upstream's always have 1000. */
  numClasses: number;
  /** Height and width of the network's input in pixels. */
  imageSize: number | readonly [number, number];
  /** Length of the shorter side before the centre is cut out. Default: 8/7 of the input's longer side (256 for 224). */
  resizeShorter?: number;
  /** How pictures are resized. Default bilinear, as upstream. */
  interpolation?: Interpolation;
  /** Default 256, as upstream. */
  batchSize?: number;
  /** Where the classifier is. Default `"cpu"`. */
  device?: string;
  /** Of the forward pass. Default `"fp32"`. */
  precision?: Precision;
  /** Fraction of the images that may be unreadable. Default 0.01. */
  maxBad?: number;
  /** Turn pictures upright as their EXIF orientation says. Default false, as upstream. */
  exif?: boolean;
  /** Once aborted, the evaluation ends after its batch and answers null. */
  signal?: AbortSignal;
  /** After each batch: how many images are done. */
  onBatch?(images: number): void;
}

/** How well a classifier does on labelled images. */
export interface Evaluation {
  /** Percent of the images whose class has the highest output. */
  acc1: number;
  /** Percent of the images whose class is among the five highest outputs; among all, where there are fewer than five. */
  acc5: number;
  /** Mean cross entropy. */
  loss: number;
  /** Images that the figures are of. */
  images: number;
  /** What could not be read. */
  bad: BadImage[];
}

/** A classifier cannot be evaluated: on these images, or at all. */
export class EvaluationError extends Error {
  override readonly name = "EvaluationError";
}

/** Sums over some images. */
export interface Score {
  /** Images whose class has the highest output. */
  correct1: number;
  /** Images whose class is among the five highest. */
  correct5: number;
  /** Sum of the cross entropies. */
  loss: number;
}

/**
 * Scores outputs against classes.
 *
 * @param logits [N, C] of any floating dtype
 * @param target int64 [N] on the same device
 */
export function scoreOf(logits: Tensor, target: Tensor): Score {
  return torch.scope(() => {
    const outputs = logits.detach().to("float32");
    const likeliest = torch.topk(outputs, Math.min(5, outputs.size(1)))[1]; // [N, 5], the highest first
    const hits = likeliest.eq(target.unsqueeze(1));
    // One transfer from the device for all three; sums of whole numbers are exact.
    const sums = torch.stack([
      hits.narrow(1, 0, 1).sum().to("float64"), hits.sum().to("float64"), torch.crossEntropyLoss(outputs, target, null, 2).to("float64"),
    ]);
    const [correct1, correct5, loss] = sums.toArray() as [number, number, number];
    return { correct1, correct5, loss };
  });
}

/**
 * Evaluates a classifier on labelled images as upstream does: shorter side to 256, the centre's 224 (or in that ratio for other sizes), in
 * evaluation mode, without gradients. The classifier's mode is as before when it returns.
 *
 * @param classifier gives outputs [N, C] for images float32 [N, 3, H, W]
 * @returns null where `signal` was aborted before the end
 * @throws LabelledDataError for an image without a label; TooManyBadImagesError; EvaluationError where an output is not a finite number
 * @example
 * const found = await evaluateClassifier(model, val, { numClasses: classes.length, imageSize: 224, device: "cuda:0" });
 * console.log(found?.acc1);
 */
export async function evaluateClassifier(
  classifier: Module, source: ImageSource | ImageStream, options: EvaluateOptions,
): Promise<Evaluation | null> {
  const { numClasses, imageSize, batchSize = 256, device = "cpu", precision = "fp32", maxBad = 0.01, exif, interpolation, signal, onBatch } = options;
  const { resizeShorter = evaluationResize(imageSize) } = options;
  const autocast = createAutocast({ device, precision });
  const wasTraining = classifier.training;
  const sums: Score = { correct1: 0, correct5: 0, loss: 0 };
  const bad: BadImage[] = [];
  let count = 0;
  classifier.eval();
  try {
    for await (const batch of evaluationBatches(source, { imageSize, resizeShorter, interpolation, batchSize, exif })) {
      using images = batch.images;
      if (signal?.aborted) return null;
      bad.push(...batch.bad);
      if (bad.length > maxBad * source.length) throw new TooManyBadImagesError(bad, source.length, maxBad);
      if (batch.indices.length === 0) continue;
      const labels = requireLabels(batch.labels, numClasses, (row) => batch.names[row]!);
      const score = torch.scope(() => torch.noGrad(() => {
        const logits = autocast(() => classifier.forward(images.to(device))); // [N, C]
        requireFiniteOutputs(logits, batch.names);
        return scoreOf(logits, torch.tensor(labels, undefined, { dtype: "int64", device }));
      }));
      for (const name of ["correct1", "correct5", "loss"] as const) sums[name] += score[name];
      count += labels.length;
      onBatch?.(count);
    }
  } finally {
    classifier.train(wasTraining);
  }
  if (count === 0) {
    throw new EvaluationError(`there is no image to evaluate on: ${bad.length} of ${source.length} could not be read; give other images`);
  }
  const percent = (correct: number): number => (100 * correct) / count;
  return { acc1: percent(sums.correct1), acc5: percent(sums.correct5), loss: sums.loss / count, images: count, bad };
}

function requireFiniteOutputs(logits: Tensor, names: readonly string[]): void {
  const row = (torch.isfinite(logits).all(1).toArray() as boolean[]).indexOf(false);
  if (row < 0) return;
  throw new EvaluationError(
    `the classifier's outputs for ${names[row]} are not finite numbers: its training has diverged, or the precision is too low; ` +
      "train with a lower --lr, or try --precision fp32",
  );
}
