import { LabelledDataError, openLabelledSplits, type ImageSource, type ImageStream, type LabelledSplits } from "../../data/index.js";
import type { Encoder } from "../../models/index.js";
import { FeatureExtractor } from "../features.js";
import { knnDefaults } from "./knn.js";
import { judgeByKnn, requireGallery, type KnnJudgement } from "../knnEvaluation.js";
import type { Recipe } from "../pretrainOptions.js";
import { unlessAborted } from "../runs/untilAborted.js";

/** How long a judgement that is cut short may wait for an image, in milliseconds. */
const patienceMs = 1000;
/** Images of one forward pass at most; few where it takes seconds, for a wish to stop waits for it. */
const largestBatch = (device: string): number => (device === "cpu" ? 64 : 256);

/**
 * Judges the encoder by kNN every so many epochs of its pre-training. The training does not notice: no random number is drawn, and the
 * network is left in the mode that it was in, its weights and statistics as they were.
 */
export class KnnProbe {
  private constructor(private readonly splits: LabelledSplits, private readonly recipe: Recipe) {}

  /**
   * Opens the images to judge by: those of `knnData`, or the training's own; their validation part, or where there is none each of them by
   * the others.
   *
   * @returns null for a recipe that does not ask for it
   * @throws LabelledDataError for images without labels; OptionError for fewer than vote
   */
  static async open(data: string | ImageSource | ImageStream, recipe: Recipe): Promise<KnnProbe | null> {
    const { knnEvery, knnData } = recipe;
    if (knnEvery === null) return null;
    const splits = await openSplits(knnData ?? data);
    requireGallery(splits, { images: recipe.knnImages ?? undefined });
    return new KnnProbe(splits, recipe);
  }

  /**
   * Judges the encoder with 20 neighbours and a temperature of 0.07.
   *
   * @throws FeatureError and the errors of the images; the signal's reason once it is aborted
   */
  async judge(encoder: Encoder, signal?: AbortSignal): Promise<KnnJudgement> {
    const { batchSize, imageSize, device, knnImages, exif } = this.recipe;
    const precision = this.recipe.precision === "fp64" ? "fp32" : this.recipe.precision; // not both, as the options are checked
    const { training } = encoder;
    try {
      const extractor = new FeatureExtractor(encoder, { batchSize: Math.min(batchSize, largestBatch(device)), imageSize, device, precision });
      const onProgress = (): void => signal?.throwIfAborted();
      const judging = judgeByKnn(extractor, this.splits, { ...knnDefaults, images: knnImages ?? undefined, exif, onProgress });
      const judgement = await unlessAborted(judging, signal, patienceMs);
      if (judgement === null) throw signal!.reason;
      return judgement;
    } finally {
      encoder.train(training);
    }
  }
}

/** Whether the encoder is judged after an epoch, counted from 0; if at all, it is after the last one. */
export function isJudgementDue({ knnEvery, epochs }: Recipe, epoch: number): boolean {
  return knnEvery !== null && ((epoch + 1) % knnEvery === 0 || epoch + 1 === epochs);
}

async function openSplits(data: string | ImageSource | ImageStream): Promise<LabelledSplits> {
  if (typeof data === "string") {
    return openLabelledSplits(data).catch((error: unknown) => {
      throw error instanceof LabelledDataError ? unlabelled(error.message, error) : error;
    });
  }
  const { classes = [] } = data;
  if (classes.length === 0) throw unlabelled("the training's images have no classes");
  return { classes, train: data, val: null };
}

function unlabelled(problem: string, cause?: Error): LabelledDataError {
  return new LabelledDataError(`kNN judges by labels, and ${problem}; or name other, labelled images to judge by: knnData, --knn-data DIR`, { cause });
}
