import type { ProcessGroup } from "../../distributed/index.js";
import { checkMixing, supervisedRecipe, type Interpolation, type LabelledSplits, type MixingRecipe, type SupervisedAugmentation } from "../../data/index.js";
import { architectures, isArchitecture, UnknownArchitectureError, type Encoder } from "../../models/index.js";
import { AdamW, SGD, type FineTuningSchedule, type Optimizer } from "../../optim/index.js";
import { OptionError, requireOneOf, requirePrecision, requireRange, requireWhole, requireWholeIfGiven, type Precision } from "../options.js";
import { requireDivisible } from "../ranks/share.js";
import { resolveTraining, type TrainingOptions } from "../trainingOptions.js";
import { parameterGroups } from "./parameterGroups.js";

/** Options of {@link finetune}. Defaults are those of DeiT's recipes, but for the number of epochs and the average of the weights. */
export interface FinetuneOptions extends TrainingOptions {
  /** What `openLabelledSplits` opens (a folder with `train/` and `val/`, CIFAR, Flowers-102, Oxford Pets, shards), or both parts themselves. */
  data: string | LabelledSplits;
  /** Images to judge by, where they are not part of the data set. */
  val?: string;
  /** Number of classes, for shards that do not name them. */
  numClasses?: number;

  /** A checkpoint of any kind that `moco convert` reads, or the folder of a run: the encoder to begin with. */
  pretrained?: string;
  /** Name of the architecture. Without `pretrained` it begins at random; with it, it must be that of the checkpoint. */
  arch?: string;
  /** Attention heads of a ViT, where they are not what the checkpoint says or its kind usually has. */
  numHeads?: number;
  /** Height and width in pixels, or the side of a square. Positions are interpolated. Default: the checkpoint's, 224 where nothing tells. */
  imageSize?: number | readonly [number, number];
  /** Stochastic depth of a ViT. Default 0.1; a ResNet has none. */
  dropPath?: number;

  /** `"sgd"` has Nesterov momentum, as timm's. Default `"adamw"`. */
  optimizer?: "adamw" | "sgd";
  /** Learning rate for a batch of 512, scaled linearly with the batch size. Default 5e-4. */
  baseLr?: number;
  /** Learning rate as it is, in place of `baseLr`. */
  lr?: number;
  /** Default 0.05. */
  weightDecay?: number;
  /** Factor of the learning rate from each layer to the one below it; 1 for the same rate in all. Default 1. */
  layerDecay?: number;
  /** Of SGD. Default 0.9. */
  momentum?: number;
  /** Of AdamW. Default [0.9, 0.999]. */
  betas?: [number, number];
  /** Of AdamW. Default 1e-8. */
  eps?: number;
  /** Largest norm of all gradients; longer ones are shrunk. Default: any. */
  clipGrad?: number;

  /** Default 100. */
  epochs?: number;
  /** Default 64. */
  batchSize?: number;
  /** Length of the linear warm-up of the learning rate. Default 5. */
  warmupEpochs?: number;
  /** Learning rate at which the warm-up begins. Default 1e-6. */
  warmupLr?: number;
  /** Learning rate that the cosine falls to. Default 1e-5. */
  minLr?: number;
  /** Whether the learning rate changes with each step (default), or once an epoch and one epoch late, as DeiT's program has it. */
  schedule?: "step" | "epoch";

  /** Share of the targets that is spread over all classes. Default 0.1. */
  smoothing?: number;
  /** Parameter of mixup; 0 for none. Default 0.8. */
  mixup?: number;
  /** Parameter of CutMix; 0 for none. Default 1. */
  cutmix?: number;
  /** Probability that a batch is mixed. Default 1. */
  mixupProb?: number;
  /** Probability of CutMix where both are on. Default 0.5. */
  mixupSwitchProb?: number;
  /** What happens to an image before. Default: DeiT's (see `supervisedRecipe`). */
  augmentation?: SupervisedAugmentation;
  /**
   * How often each image of an epoch comes, one time after the other (repeated augmentation). DeiT takes 3 for ImageNet, which makes an epoch
   * of a third of the images. Default 1.
   */
  repeats?: number;

  /** Decay of a moving average of the weights that is evaluated and saved too; DeiT's is 0.99996. Default: none. */
  averageDecay?: number;

  /** Default: float16 on a GPU, as DeiT, and float32 on the CPU. */
  precision?: Precision;
  /** Only kernels that give the same bits in each run, on a GPU; the CPU always repeats itself. Default false. */
  deterministic?: boolean;

  /** A checkpoint of a fine-tuning to go on from, or its folder. */
  resume?: string;
  /** The processes that train together; the batch is that of all. All read the files that are named. Default: this one alone. */
  group?: ProcessGroup;
}

/** The options with every default filled in. */
export type FinetuneRecipe = ReturnType<typeof resolveFinetuneOptions>;

/**
 * Fills in the defaults and checks every value, before anything is read or built.
 *
 * @throws OptionError or DataOptionError that name the option, its value and what is allowed; UnknownArchitectureError
 */
export function resolveFinetuneOptions(options: FinetuneOptions) {
  const { batchSize = 64, baseLr = 5e-4, group } = options;
  const training = resolveTraining(options);
  const mixing: MixingRecipe = {
    mixupAlpha: options.mixup ?? 0.8, cutmixAlpha: options.cutmix ?? 1,
    probability: options.mixupProb ?? 1, switchProbability: options.mixupSwitchProb ?? 0.5,
  };
  const given = {
    pretrained: options.pretrained ?? null,
    arch: options.arch ?? null,
    numHeads: options.numHeads ?? null,
    imageSize: options.imageSize ?? null,
    dropPath: options.dropPath ?? null,
    optimizer: options.optimizer ?? ("adamw" as const),
    lr: options.lr ?? scaledFineTuningRate(baseLr, batchSize),
    weightDecay: options.weightDecay ?? 0.05,
    layerDecay: options.layerDecay ?? 1,
    momentum: options.momentum ?? 0.9,
    betas: options.betas ?? ([0.9, 0.999] as [number, number]),
    eps: options.eps ?? 1e-8,
    clipGrad: options.clipGrad ?? null,
    epochs: options.epochs ?? 100,
    batchSize,
    warmupEpochs: options.warmupEpochs ?? 5,
    warmupLr: options.warmupLr ?? 1e-6,
    minLr: options.minLr ?? 1e-5,
    schedule: options.schedule ?? ("step" as const),
    smoothing: options.smoothing ?? 0.1,
    mixing,
    augmentation: options.augmentation ?? {},
    repeats: options.repeats ?? 1,
    averageDecay: options.averageDecay ?? null,
    ...training,
    precision: options.precision ?? (training.device === "cpu" ? "fp32" : "fp16"),
    deterministic: options.deterministic ?? false,
  };
  check(given, options.numClasses);
  requireDivisible("batchSize", batchSize, group);
  return given;
}

function check(given: FinetuneRecipe, numClasses: number | undefined): void {
  const { pretrained, arch, resume, imageSize, dropPath, clipGrad, averageDecay, numHeads, betas } = given;
  for (const name of ["epochs", "batchSize", "repeats"] as const) requireWhole(name, given[name], 1);
  for (const [name, value] of Object.entries({ numHeads, numClasses })) requireWholeIfGiven(name, value, 1);
  for (const pixels of typeof imageSize === "number" ? [imageSize] : imageSize ?? []) requireWhole("imageSize", pixels, 1);
  for (const name of ["lr", "weightDecay", "warmupEpochs", "warmupLr", "minLr", "eps"] as const) requireRange(name, given[name], 0, Number.MAX_VALUE);
  if (clipGrad !== null) requireRange("clipGrad", clipGrad, Number.MIN_VALUE, Number.MAX_VALUE);
  requireRange("layerDecay", given.layerDecay, Number.MIN_VALUE, 1);
  const belowOne = { dropPath, averageDecay, smoothing: given.smoothing, momentum: given.momentum, "betas[0]": betas[0], "betas[1]": betas[1] };
  for (const [name, value] of Object.entries(belowOne)) if (value !== null) requireRange(name, value, 0, 1 - Number.EPSILON);
  requireOneOf("optimizer", given.optimizer, ["adamw", "sgd"]);
  requireOneOf("schedule", given.schedule, ["step", "epoch"]);
  requirePrecision(given.precision, given.device);
  checkMixing(given.mixing);
  supervisedRecipe(given.augmentation); // throws for what makes no sense
  if (arch !== null && !isArchitecture(arch)) throw new UnknownArchitectureError(arch);
  if (pretrained !== null && resume !== null) {
    throw new OptionError(
      "pretrained begins a new run and resume goes on with one; give resume alone to go on, or pretrained alone to begin with an encoder",
    );
  }
  if (pretrained === null && resume === null && arch === null) {
    throw new OptionError(
      `nothing says what to fine-tune: give a checkpoint (pretrained), or, to train from scratch, an architecture (arch): ${architectures.join(", ")}`,
    );
  }
}

/** How pictures are resized to be evaluated: as in training, or bicubically where that is drawn. */
export function evaluationInterpolation({ augmentation: { interpolation = "bicubic" } }: FinetuneRecipe): Interpolation {
  return interpolation === "random" ? "bicubic" : interpolation;
}

/** DeiT's linear scaling rule: a base rate is given for a batch of 512 images. */
function scaledFineTuningRate(baseLr: number, batchSize: number): number {
  return (baseLr * batchSize) / 512;
}

/** Fractional epoch for the learning rate of a step. */
export function scheduleEpoch({ schedule }: FinetuneRecipe, epoch: number, step: number, stepsPerEpoch: number): number {
  // DeiT's program sets the rate of an epoch's number after that epoch, so that the first one counts twice.
  return schedule === "epoch" ? Math.max(0, epoch - 1) : epoch + step / stepsPerEpoch;
}

export function scheduleOf({ lr, epochs, warmupEpochs, warmupLr, minLr }: FinetuneRecipe): FineTuningSchedule {
  return { lr, epochs, warmupEpochs, warmupLr, minLr };
}

/** The optimiser that a recipe asks for, with DeiT's groups of parameters. */
export function createFinetuneOptimizer(encoder: Encoder, recipe: FinetuneRecipe): Optimizer {
  const { optimizer, lr, momentum, betas, eps } = recipe;
  const groups = parameterGroups(encoder, recipe);
  return optimizer === "adamw" ? new AdamW(groups, { lr, betas, eps }) : new SGD(groups, { lr, momentum, nesterov: momentum > 0 });
}

/** The options that shape the weights, as checkpoints keep them; those of the optimiser are in its own state. */
export function finetuneFacts(recipe: FinetuneRecipe, imageSize: readonly [number, number], dropPath: number): Record<string, unknown> {
  const names = [
    "optimizer", "lr", "epochs", "warmupEpochs", "warmupLr", "minLr", "schedule", "layerDecay", "clipGrad", "smoothing", "mixing", "augmentation",
    "repeats", "exif", "averageDecay", "precision",
  ] as const;
  const options = Object.fromEntries(names.map((name) => [name, recipe[name]]));
  return JSON.parse(JSON.stringify({ ...options, imageSize, dropPath, decay: recipe.weightDecay })) as Record<string, unknown>;
}

