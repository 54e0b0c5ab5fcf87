import {
  openLabelledSplits, randomSubset, requireLabels, type BadImage, type ImageSource, type ImageStream, type LabelledSplits,
} from "../data/index.js";
import { gatherFeatures, type FeatureBank } from "./neighbours/featureBank.js";
import type { FeatureExtractor } from "./features.js";
import { knnDefaults, knnScores, requireNeighbours, type KnnScore, type LabelledFeatures } from "./neighbours/knn.js";
import { loadExtractor, type LoadExtractorOptions } from "./loadExtractor.js";
import { requirePrecision, requireRange, requireWhole, resolveDevice, type Precision } from "./options.js";

/** How a frozen encoder is judged by its nearest neighbours. */
export interface KnnJudgeOptions {
  /** Numbers of neighbours that vote, all judged in one pass. Default [20]. */
  neighbours?: readonly number[];
  /** A neighbour's vote weighs exp(cosine similarity / temperature). Default 0.07. */
  temperature?: number;
  /** How the gallery's features are kept and compared; half precision halves their memory. Default `"fp32"`. */
  galleryPrecision?: Precision;
  /** Only so many images of each part, drawn at random, always the same ones. Default: all. */
  images?: number;
  /** Turn pictures upright as their EXIF orientation says. Default false. */
  exif?: boolean;
  /** Hears how far the work is. */
  onProgress?(progress: KnnProgress): void;
}

/** What {@link evaluateKnn} tells while it works. */
export interface KnnProgress {
  /** What is being done: features of the gallery, those of the queries, or the search for neighbours. */
  stage: "gallery" | "queries" | "neighbours";
  done: number;
  total: number;
}

export interface KnnJudgement {
  scores: KnnScore[];
  /** Images among which neighbours are looked for. */
  gallery: number;
  /** Images that are judged. */
  queries: number;
  /** Whether the queries are the gallery, each left out of its own neighbours. */
  leaveOneOut: boolean;
  /** What could not be read, of both parts. */
  bad: BadImage[];
}

/** Which encoder is judged, by which images and numbers of neighbours. */
export interface KnnEvaluationOptions extends KnnJudgeOptions, LoadExtractorOptions {
  /** A labelled data set, as `openLabelledSplits` takes it. */
  data: string;
  /** Checkpoint of any kind that `moco convert` reads, or a run's folder. */
  pretrained: string;
  /** Images to judge by, where they are not part of the data set. */
  val?: string;
  /** Number of classes, for shards that do not name them. */
  numClasses?: number;
}

/** Accuracies of a kNN judgement, in per cent. */
export interface KnnEvaluation extends KnnJudgement {
  classes: number;
  layer: string;
  imageSize: readonly [number, number];
  temperature: number;
  device: string;
  seconds: number;
}

/**
 * Judges an encoder by weighted kNN on its frozen features: the gallery is the training part, the queries the validation part; without one,
 * each image of the training part is judged by the others. All images as in evaluation, nothing random: shorter side to 8/7 of the input
 * size, then the centre.
 *
 * @throws OptionError; the errors of the checkpoint, LabelledDataError of the images, FeatureError of their features
 * @example
 * const { scores } = await evaluateKnn({ data: "imagenet", pretrained: "runs/vits", neighbours: [10, 20, 100, 200] });
 */
export async function evaluateKnn(options: KnnEvaluationOptions): Promise<KnnEvaluation> {
  const started = performance.now();
  requireKnnOptions(options, resolveDevice(options.device));
  const { data, val, numClasses, pretrained, temperature = knnDefaults.temperature } = options;
  const splits = await openLabelledSplits(data, { val, numClasses });
  requireGallery(splits, options);
  const extractor = await loadExtractor(pretrained, options);
  try {
    const judgement = await judgeByKnn(extractor, splits, options);
    const { layer, imageSize, device } = extractor;
    const seconds = (performance.now() - started) / 1000;
    return { ...judgement, classes: splits.classes.length, layer, imageSize, temperature, device, seconds };
  } finally {
    extractor.encoder.dispose();
  }
}

/** @throws OptionError for numbers of neighbours, temperatures or precisions that cannot be */
function requireKnnOptions({ neighbours = [], temperature, galleryPrecision, images }: KnnJudgeOptions, device: string): void {
  for (const k of neighbours) requireWhole("k", k, 1);
  if (temperature !== undefined) requireRange("temperature", temperature, Number.MIN_VALUE, Number.MAX_VALUE);
  if (galleryPrecision !== undefined) requirePrecision(galleryPrecision, device);
  if (images !== undefined) requireWhole("images", images, 2);
}

/** @throws OptionError when the data set, as far as it is known, has fewer images than neighbours asked for */
export function requireGallery({ train, val }: LabelledSplits, { neighbours = knnDefaults.neighbours, images = Infinity }: KnnJudgeOptions): void {
  requireNeighbours(neighbours, Math.min(train.length, images), val === null);
}

/**
 * Judges a frozen encoder that is there already; see {@link evaluateKnn}.
 *
 * @throws as evaluateKnn
 */
export async function judgeByKnn(extractor: FeatureExtractor, splits: LabelledSplits, options: KnnJudgeOptions = {}): Promise<KnnJudgement> {
  const { galleryPrecision = "fp32", images = Infinity, exif, onProgress } = options;
  const numClasses = splits.classes.length;
  const dtype = galleryPrecision === "fp32" ? "float32" : galleryPrecision === "bf16" ? "bfloat16" : "float16";
  const train = randomSubset(splits.train, images);
  const val = splits.val === null ? null : randomSubset(splits.val, images);
  const tell = (stage: KnnProgress["stage"], total: number) => (done: number) => onProgress?.({ stage, done, total });

  const gathered = async (images: ImageSource | ImageStream, stage: "gallery" | "queries"): Promise<FeatureBank & LabelledFeatures> => {
    const labels: number[] = [];
    const bank = await gatherFeatures(extractor, images, {
      dtype, exif,
      onBatch: ({ names, labels: ofBatch }) => {
        labels.push(...requireLabels(ofBatch, numClasses, (row) => names[row]!));
        tell(stage, images.length)(labels.length);
      },
    });
    return { ...bank, labels };
  };

  using gallery = await gathered(train, "gallery");
  using ofQueries = val === null ? null : await gathered(val, "queries");
  const queries = ofQueries ?? gallery;
  const leaveOneOut = ofQueries === null;
  const { neighbours, temperature } = options;
  const asked = { ...(neighbours && { neighbours }), ...(temperature !== undefined && { temperature }) };
  const scores = await knnScores(queries, gallery, {
    ...asked, numClasses, leaveOneOut, onQueries: tell("neighbours", queries.labels.length),
  });
  const bad = [...gallery.bad, ...(ofQueries?.bad ?? [])];
  return { scores, gallery: gallery.labels.length, queries: queries.labels.length, leaveOneOut, bad };
}
