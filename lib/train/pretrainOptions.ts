import { randomInt } from "node:crypto";
import type { ImageSource, ImageStream, RecipeChanges } from "../data/index.js";
import type { ProcessGroup } from "../distributed/index.js";
import { isArchitecture, UnknownArchitectureError, VisionTransformer, type Encoder } from "../models/index.js";
import type { Module } from "../nn/index.js";
import { AdamW, LARS, scaledLearningRate, type Optimizer } from "../optim/index.js";
import type { Tensor } from "../torch/index.js";
import { requireDivisible } from "./ranks/share.js";
import { ratesOnDevice } from "./graphs/ratesOnDevice.js";
import { graphChoices, requireRecordable, type CudaGraph } from "./graphs/stepRecorder.js";
import type { Position } from "./runs/checkpointFiles.js";
import {
  fastestPrecision, OptionError, requireOneOf, requirePrecision, requireRange, requireWhole, requireWholeIfGiven, type Precision,
} from "./options.js";
import { spikeAnswers, type OnSpike } from "./stability/spikePolicy.js";
import { resolveTraining, type TrainingOptions } from "./trainingOptions.js";

export type OptimizerName = "lars" | "adamw";

/** Options of {@link pretrain}. Defaults are upstream's. */
export interface PretrainOptions extends TrainingOptions {
  /** What `openImages` opens (a folder, a list, shards, Parquet, a benchmark data set), or a source or stream of your own. */
  data: string | ImageSource | ImageStream;

  /** Name of an architecture, or a function that builds a `VisionTransformer` or a `ResNet`. Default `"resnet50"`. */
  encoder?: string | ((numClasses: number) => Module);
  /** What checkpoints call an encoder that is given as a function. Default `"custom"`. */
  arch?: string;
  /** Pixels of the square views. Default 224. */
  imageSize?: number;
  /** Pixels of a patch's side, for a ViT given by name. Default 16. */
  patchSize?: number;
  /** Freeze a ViT's patch projection at its random start. Default false. */
  stopGradConv1?: boolean;

  /** Length of the contrasted features. Default 256. */
  dim?: number;
  /** Hidden width of projector and predictor. Default 4096. */
  mlpDim?: number;
  /** Default 1; the paper's recipes use 0.2 for ViTs. */
  temperature?: number;
  /** Momentum of the momentum encoder. Default 0.99. */
  m?: number;
  /** Raise `m` to 1 along half a cosine cycle. Default false. */
  mCos?: boolean;

  /** Default `"lars"`; the paper's recipes use `"adamw"` for ViTs. */
  optimizer?: OptimizerName;
  /** Learning rate for a batch of 256, scaled linearly with the batch size. Default 0.6. */
  baseLr?: number;
  /** Learning rate as it is, in place of `baseLr`. */
  lr?: number;
  /** Default 1e-6. */
  weightDecay?: number;
  /** Of LARS. Default 0.9. */
  momentum?: number;
  /** Of AdamW. Default [0.9, 0.999]. */
  betas?: [number, number];

  /** Default 100. */
  epochs?: number;
  /** Length of the linear warm-up of the learning rate. Default 10. */
  warmupEpochs?: number;
  /** First epoch, counted from 0; a checkpoint that is resumed knows better. Default 0. */
  startEpoch?: number;
  /** Default 4096. */
  batchSize?: number;
  /**
   * Images that are encoded at once, two views of each: less memory for a quarter to a third more time. A ViT's gradients are those of the
   * whole batch; BatchNorm in a ResNet or a convolutional stem sees one chunk at a time. See docs/memory.md. Default: the whole batch.
   */
  microBatch?: number;
  /** Smallest area of a crop as a fraction of the image's. Default 0.08. */
  cropMin?: number;
  /** Changes to upstream's augmentations. */
  augmentation?: RecipeChanges;
  /**
   * Where colour, blur, solarize and flip happen: `"cpu"`, whose pixels are upstream's, or `"gpu"`, on the training's device, which leaves
   * only decoding and cropping to the CPU. Default `"cpu"`.
   */
  augment?: "cpu" | "gpu";

  /**
   * Default `"auto"`, the fastest on this device for this architecture, as docs/benchmarks.md measured: on a GPU bfloat16 for plain ViTs where it has
   * that, else float16, which is upstream's; float32 on the CPU. `"fp64"` holds the weights in float64, too: slow, and so exact that runs of any
   * number of processes can be compared.
   */
  precision?: Precision | "fp64" | "auto";
  /** Let matrix products of float32 on a GPU round to TF32's 10 bits; convolutions do in any case. Default false. */
  tf32?: boolean;
  /**
   * Only kernels that give the same bits in each run. Without it the same seed gives on a GPU the same images and crops, but weights that
   * drift apart by roundings; the CPU always repeats itself. Default false.
   */
  deterministic?: boolean;
  /**
   * Launch a step as two CUDA graphs, of all up to the gradients and of the optimiser's update, recorded after a few steps: the same numbers in
   * less time where a step has few images. `"auto"`: where the steps can be recorded, which takes one GPU and no `microBatch`; `"on"`: an error where they cannot.
   * Default `"off"`.
   */
  cudaGraph?: CudaGraph;

  /**
   * A checkpoint of ours or of upstream's to go on from, or the folder of a run for its latest. With `autoResume` it is what the run begins
   * with while its own folder has none.
   */
  resume?: string;
  /** A checkpoint of any kind that `moco convert` reads: a new run begins with its encoder's weights. */
  init?: string;
  /** Epochs from one checkpoint to the next; the last epoch always has one. Default 1. */
  saveEveryEpochs?: number;
  /** Also save every so many steps; the next checkpoint replaces such a one. Default 0: don't. */
  saveEverySteps?: number;
  /** Keep only so many of the newest checkpoints of whole epochs. Default: all. */
  keep?: number;
  /** Keep those after every so many epochs for ever, besides the `keep` newest, or the newest one. */
  keepEvery?: number;

  /**
   * The processes that train together, this one among them; each calls `pretrain` with the same options. `batchSize` is that of all together, and
   * only rank 0 needs checkpoints and writes. Default: this process alone.
   */
  group?: ProcessGroup;
  /** Shrink the gradients where their norm over all parameters is above this, as `torch.nn.utils.clip_grad_norm_` does. Default: don't. */
  clipGrad?: number;
  /** Read the signals of instability in every step, log them and warn; see docs/stability.md. Default true. */
  watch?: boolean;
  /**
   * What becomes of a step whose gradient spikes: it is made and warned of, left out (`"skip"`), or the run goes on from an earlier state
   * without it (`"rollback"`). Default `"warn"`.
   */
  onSpike?: OnSpike;
  /** How many times its usual norm makes a gradient a spike. Default 10. */
  spikeRatio?: number;
  /** Steps from one state that a rollback goes back to, to the next. Default 100. */
  rollbackSteps?: number;

  /** Judge the encoder by kNN after every so many epochs, and after the last one. Needs labels. Default: don't. */
  knnEvery?: number;
  /** Labelled images to judge by, as `openLabelledSplits` takes them. Default: the training's. */
  knnData?: string;
  /** Judge by only so many images, drawn at random, always the same ones. Default: all. */
  knnImages?: number;
}

/** The options with every default filled in. */
export type Recipe = ReturnType<typeof resolveOptions>;

/**
 * Fills in upstream's defaults and checks every value, before anything is read or built.
 *
 * @throws OptionError that names the option, its value and what is allowed; UnknownArchitectureError
 */
export function resolveOptions(options: PretrainOptions) {
  const { encoder = "resnet50", batchSize = 4096, baseLr = 0.6, group } = options;
  const training = resolveTraining(options);
  const { device } = training;
  const arch = options.arch ?? (typeof encoder === "string" ? encoder : "custom");
  const given = {
    data: typeof options.data === "string" ? options.data : null,
    encoder,
    arch,
    imageSize: options.imageSize ?? 224,
    patchSize: options.patchSize ?? null,
    stopGradConv1: options.stopGradConv1 ?? false,
    dim: options.dim ?? 256,
    mlpDim: options.mlpDim ?? 4096,
    temperature: options.temperature ?? 1,
    m: options.m ?? 0.99,
    mCos: options.mCos ?? false,
    optimizer: options.optimizer ?? "lars",
    lr: options.lr ?? scaledLearningRate(baseLr, batchSize),
    weightDecay: options.weightDecay ?? 1e-6,
    momentum: options.momentum ?? 0.9,
    betas: options.betas ?? ([0.9, 0.999] as [number, number]),
    epochs: options.epochs ?? 100,
    warmupEpochs: options.warmupEpochs ?? 10,
    startEpoch: options.startEpoch ?? 0,
    batchSize,
    microBatch: options.microBatch ?? null,
    cropMin: options.cropMin ?? 0.08,
    augmentation: options.augmentation ?? null,
    augment: options.augment ?? ("cpu" as const),
    ...training,
    precision: (options.precision ?? "auto") === "auto" ? fastestPrecision(arch, device) : (options.precision as Precision | "fp64"),
    tf32: options.tf32 ?? false,
    deterministic: options.deterministic ?? false,
    cudaGraph: options.cudaGraph ?? ("off" as const),
    init: options.init ?? null,
    saveEveryEpochs: options.saveEveryEpochs ?? 1,
    saveEverySteps: options.saveEverySteps ?? 0,
    keep: options.keep ?? null,
    keepEvery: options.keepEvery ?? null,
    clipGrad: options.clipGrad ?? null,
    watch: options.watch ?? true,
    onSpike: options.onSpike ?? ("warn" as const),
    spikeRatio: options.spikeRatio ?? 10,
    rollbackSteps: options.rollbackSteps ?? 100,
    knnEvery: options.knnEvery ?? null,
    knnData: options.knnData ?? null,
    knnImages: options.knnImages ?? null,
  };
  const { patchSize, microBatch, precision, optimizer, betas, keep, keepEvery, knnEvery, knnData, knnImages } = given;

  if (typeof encoder === "string" && !isArchitecture(encoder)) throw new UnknownArchitectureError(encoder);
  for (const name of ["imageSize", "dim", "mlpDim", "epochs", "saveEveryEpochs"] as const) requireWhole(name, given[name], 1);
  for (const name of ["startEpoch", "saveEverySteps"] as const) requireWhole(name, given[name], 0);
  for (const [name, value] of Object.entries({ microBatch, patchSize, keep, keepEvery, knnEvery, knnImages })) requireWholeIfGiven(name, value, 1);
  // BatchNorm needs two values per channel, contrast two images.
  requireWhole("batchSize", batchSize, 2);
  requireDivisible("batchSize", batchSize, group);
  for (const name of ["lr", "weightDecay", "warmupEpochs"] as const) requireRange(name, given[name], 0, Number.MAX_VALUE);
  requireRange("temperature", given.temperature, Number.MIN_VALUE, Number.MAX_VALUE);
  requireRange("m", given.m, 0, 1);
  requireRange("cropMin", given.cropMin, Number.MIN_VALUE, 1);
  requireRange("momentum", given.momentum, 0, 1 - Number.EPSILON);
  for (const beta of betas) requireRange("betas", beta, 0, 1 - Number.EPSILON);
  requireOneOf("optimizer", optimizer, ["lars", "adamw"]);
  requireOneOf("cudaGraph", given.cudaGraph, graphChoices);
  requireRecordable(given);
  requireOneOf("augment", given.augment, ["cpu", "gpu"]);
  if (betas.length !== 2) throw new OptionError(`betas has ${betas.length} values; give two decay rates, such as [0.9, 0.999]`);
  if (patchSize !== null && typeof encoder === "string" && !encoder.startsWith("vit")) {
    throw new OptionError(`patchSize is ${patchSize}, but ${encoder} has no patches; leave it out, or choose a ViT`);
  }
  if (knnEvery === null && (knnData !== null || knnImages !== null)) {
    throw new OptionError(`${knnData !== null ? "knnData" : "knnImages"} is given without knnEvery; say after how many epochs to judge (--knn-every)`);
  }
  if (given.init !== null && given.resume !== null) {
    throw new OptionError(
      "init begins a new run and resume goes on with one; give resume alone to go on, or init alone to begin with another encoder's weights",
    );
  }
  if (precision !== "fp64") requirePrecision(precision, device);
  else if (knnEvery !== null) throw new OptionError("precision fp64 is for comparing trainings, and knnEvery judges in lower ones; leave one of them out");
  if (given.clipGrad !== null) requireRange("clipGrad", given.clipGrad, Number.MIN_VALUE, Number.MAX_VALUE);
  requireOneOf("onSpike", given.onSpike, spikeAnswers);
  requireRange("spikeRatio", given.spikeRatio, 1, Number.MAX_VALUE);
  requireWhole("rollbackSteps", given.rollbackSteps, 1);
  if (!given.watch && given.onSpike !== "warn") {
    throw new OptionError(`onSpike is "${given.onSpike}", and watch is false, so that no spike is seen; leave out one of them (--no-watch, --on-spike)`);
  }
  return given;
}

/** The options that shape the weights, as checkpoints keep them, and what the shapes of a ViT's weights do not tell. */
export function trainingFacts(recipe: Recipe, encoder: Encoder): Record<string, unknown> {
  const names = [
    "imageSize", "patchSize", "stopGradConv1", "dim", "mlpDim", "temperature", "m", "mCos", "optimizer", "lr", "weightDecay", "momentum",
    "betas", "epochs", "warmupEpochs", "cropMin", "augmentation", "exif", "augment", "precision",
  ] as const;
  const options = Object.fromEntries(names.map((name) => [name, recipe[name]]));
  const numHeads = encoder instanceof VisionTransformer ? encoder.numHeads : undefined;
  // What is not asked for stays out, so that a checkpoint from before there was such an option does not differ.
  const { clipGrad, onSpike, spikeRatio, rollbackSteps } = recipe;
  const stability = {
    tf32: recipe.tf32 || undefined,
    clipGrad: clipGrad ?? undefined,
    ...(onSpike === "warn" ? {} : { onSpike, spikeRatio, ...(onSpike === "rollback" ? { rollbackSteps } : {}) }),
  };
  return JSON.parse(JSON.stringify({ ...options, ...stability, encoder: { numHeads } })) as Record<string, unknown>;
}

/** The optimiser that a recipe asks for. It gets all parameters, frozen ones too: their places number its saved state. */
export function createOptimizer(parameters: Tensor[], recipe: Recipe): Optimizer {
  const { optimizer, lr, weightDecay, momentum, betas } = recipe;
  const placement = { ratesOnDevice: ratesOnDevice(recipe) };
  if (optimizer === "adamw") return new AdamW(parameters, { lr, weightDecay, betas }, placement);
  return new LARS(parameters, { lr, weightDecay, momentum }, placement);
}

/** Whether a checkpoint is due at a position. */
export function isSaveDue({ epochs, saveEveryEpochs, saveEverySteps }: Recipe, { epoch, step }: Position, stepsPerEpoch: number): boolean {
  if (step === 0) return epoch === epochs || epoch % saveEveryEpochs === 0;
  return saveEverySteps > 0 && (epoch * stepsPerEpoch + step) % saveEverySteps === 0;
}

/** A seed for a run that was given none. */
export function randomSeed(): number {
  return randomInt(2 ** 31);
}
