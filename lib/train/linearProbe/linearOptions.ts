import type { LabelledSplits } from "../../data/index.js";
import { isArchitecture, UnknownArchitectureError, VisionTransformer, type Encoder } from "../../models/index.js";
import { scaledLearningRate } from "../../optim/index.js";
import type { ProcessGroup } from "../../distributed/index.js";
import { requireDivisible } from "../ranks/share.js";
import { resolveTraining, type TrainingOptions } from "../trainingOptions.js";
import { OptionError, requirePrecision, requireRange, requireWhole, requireWholeIfGiven, type Precision } from "../options.js";

/** Options of {@link linearProbe}. Defaults are upstream's. */
export interface LinearProbeOptions extends TrainingOptions {
  /** What `openLabelledSplits` opens: a folder with `train/` and `val/`, a benchmark data set, shards; or two sources of your own. */
  data: string | LabelledSplits;
  /** Images to judge by, where they are not part of `data`. */
  val?: string;
  /** Outputs of the classifier. Default: one for each class. Upstream's always have 1000; needed for shards that do not name classes. */
  numClasses?: number;

  /** The encoder: any checkpoint that `moco convert` reads, or a run's folder for its latest. Default: random weights. */
  pretrained?: string;
  /** Name of the architecture. Default: that of the checkpoint, and `"resnet50"` without one. A checkpoint of another one is refused. */
  arch?: string;
  /** Attention heads of a ViT, where they are not what the file says or its kind usually has. */
  numHeads?: number;
  /** Pixels of the square input. Default: what the encoder was trained on, 224 where nothing tells. */
  imageSize?: number;

  /** Default 90. */
  epochs?: number;
  /** First epoch, counted from 0. As upstream, only without `pretrained`, and a checkpoint that is resumed knows better. Default 0. */
  startEpoch?: number;
  /** Default 1024. */
  batchSize?: number;
  /** Learning rate for a batch of 256, scaled linearly with the batch size. Default 0.1. */
  baseLr?: number;
  /** Learning rate as it is, in place of `baseLr`. */
  lr?: number;
  /**
   * Train a classifier for each of these learning rates (for a batch of 256) at once, on the same features; in place of `baseLr`. Checkpoints
   * have the one with the highest accuracy.
   */
  sweep?: readonly number[];
  /** Of SGD. Default 0.9. */
  momentum?: number;
  /** Default 0. */
  weightDecay?: number;
  /** Smallest area of a crop as a fraction of the image's. Default 0.08, torchvision's. */
  cropMin?: number;
  /**
   * Compute the features once instead of in every epoch: of the centre of each image, as in evaluation, or, with `cacheViews`, of random
   * crops. Fast, and not upstream's protocol, whose crops are new in each epoch. Default false.
   */
  cacheFeatures?: boolean;
  /** Random crops of each image whose features are computed once; epoch after epoch uses the next. Implies `cacheFeatures`. Default 0: none. */
  cacheViews?: number;
  /** Bytes of features that are kept in memory; more are kept in a file of the run's folder. Default 2 GiB. */
  featureMemory?: number;

  /** Evaluate only. Default false. */
  evaluate?: boolean;
  /** Of the frozen encoder; the classifier is trained in float32. Default `"fp32"`, as upstream. */
  precision?: Precision;

  /** A checkpoint of ours or of upstream's to go on from, or the folder of a run. */
  resume?: string;

  /**
   * The processes that train together, this one among them; each calls `linearProbe` with the same options and reads the same files. `batchSize`
   * is that of all together, and rank 0 writes. Default: this process alone.
   */
  group?: ProcessGroup;
}

/** The options with every default filled in. */
export type LinearRecipe = ReturnType<typeof resolveLinearOptions>;

/**
 * Fills in upstream's defaults and checks every value, before anything is read or built.
 *
 * @throws OptionError that names the option, its value and what is allowed; UnknownArchitectureError
 */
export function resolveLinearOptions(options: LinearProbeOptions) {
  const { batchSize = 1024, baseLr = 0.1, sweep = null, cacheViews = 0 } = options;
  const { group } = options;
  const lr = options.lr ?? scaledLearningRate(baseLr, batchSize);
  const recipe = {
    val: options.val ?? null,
    images: options.images ?? null,
    shuffleBuffer: options.shuffleBuffer ?? null,
    numClasses: options.numClasses ?? null,
    pretrained: options.pretrained ?? null,
    arch: options.arch ?? null,
    numHeads: options.numHeads ?? null,
    imageSize: options.imageSize ?? null,
    epochs: options.epochs ?? 90,
    startEpoch: options.startEpoch ?? 0,
    batchSize,
    lr,
    /** The learning rate of each classifier, scaled. */
    rates: sweep === null ? [lr] : sweep.map((rate) => scaledLearningRate(rate, batchSize)),
    sweep: sweep === null ? null : [...sweep],
    momentum: options.momentum ?? 0.9,
    weightDecay: options.weightDecay ?? 0,
    cropMin: options.cropMin ?? 0.08,
    cacheFeatures: (options.cacheFeatures ?? false) || cacheViews > 0,
    cacheViews,
    featureMemory: options.featureMemory ?? 2 ** 31,
    evaluate: options.evaluate ?? false,
    ...resolveTraining(options),
    precision: options.precision ?? ("fp32" as const),
  };
  const { arch, numClasses, numHeads, imageSize } = recipe;
  if (arch !== null && !isArchitecture(arch)) throw new UnknownArchitectureError(arch);
  for (const name of ["epochs", "batchSize"] as const) requireWhole(name, recipe[name], 1);
  for (const name of ["startEpoch", "cacheViews"] as const) requireWhole(name, recipe[name], 0);
  for (const [name, value] of Object.entries({ numClasses, numHeads, imageSize })) requireWholeIfGiven(name, value, 1);
  requireDivisible("batchSize", batchSize, group);
  if (recipe.cacheFeatures && recipe.worldSize > 1) {
    throw new OptionError("features are cached by one process (--cache-features, --cache-views); leave that out, or train with one process");
  }
  for (const name of ["lr", "weightDecay", "featureMemory"] as const) requireRange(name, recipe[name], 0, Number.MAX_VALUE);
  for (const rate of sweep ?? []) requireRange("sweep", rate, Number.MIN_VALUE, Number.MAX_VALUE);
  if (sweep !== null && (sweep.length === 0 || new Set(sweep).size < sweep.length)) {
    throw new OptionError(`sweep is [${sweep.join(", ")}]; give one or more learning rates, each once`);
  }
  if (sweep !== null && (options.lr !== undefined || options.baseLr !== undefined)) {
    throw new OptionError("sweep gives the learning rates, and so does the learning rate alone (lr, baseLr); give one of them");
  }
  requireRange("momentum", recipe.momentum, 0, 1 - Number.EPSILON);
  requireRange("cropMin", recipe.cropMin, Number.MIN_VALUE, 1);
  if (recipe.autoResume && recipe.evaluate) throw new OptionError("autoResume goes on with a training, and evaluate trains nothing; leave one of them out");
  requirePrecision(recipe.precision, recipe.device);
  return recipe;
}

/** The options that shape the weights, as checkpoints keep them, and what the shapes of a ViT's weights do not tell. */
export function probeFacts(recipe: LinearRecipe, encoder: Encoder, imageSize: readonly number[], numClasses: number): Record<string, unknown> {
  const names = ["lr", "sweep", "momentum", "weightDecay", "epochs", "cropMin", "cacheFeatures", "cacheViews", "exif", "precision"] as const;
  const options = Object.fromEntries(names.map((name) => [name, recipe[name]]));
  const numHeads = encoder instanceof VisionTransformer ? encoder.numHeads : undefined;
  return JSON.parse(JSON.stringify({ task: "linear-probe", ...options, imageSize, numClasses, encoder: { numHeads } })) as Record<string, unknown>;
}
