import { type Command, InvalidArgumentError } from "commander";
import type { FinetuneOptions } from "../train/finetuning/finetuneOptions.js";
import { loggerFlags, type LoggerFlags } from "./loggerFlags.js";
import type { Range } from "./numberOption.js";
import { deviceOf, flag, fraction, notNegative, number, positive, requireRestartable, shared, whole, type TrainingFlags } from "./trainingFlags.js";
import { UsageError } from "./usageError.js";

/** Flags that upstream's programs and DeiT's mean alike. */
type SharedFlags = Pick<
  TrainingFlags,
  "workers" | "epochs" | "batchSize" | "momentum" | "weightDecay" | "printFreq" | "resume" | "seed" | "gpu" | "out" | "autoResume" | "requeueSignal" | "device" |
  "precision" | "deterministic" |
  "worldSize" | "rank" | "distUrl" | "distBackend" | "distTimeout" | "multiprocessingDistributed" | "threads" | "maxBad" | "exif" | "saveInBackground" | "stopAfter" | "config" | "quiet" | "json"
>;

/** Parsed flags of `moco finetune`, under commander's names. */
export interface FinetuneFlags extends SharedFlags, LoggerFlags {
  pretrained?: string;
  arch?: string;
  heads?: number;
  val?: string;
  numClasses?: number;
  images?: number;
  shuffleBuffer?: number;
  imageSize?: number;
  dropPath?: number;
  modelEma?: boolean;
  modelEmaDecay: number;
  opt: "adamw" | "sgd";
  optEps: number;
  optBetas?: [number, number];
  clipGrad?: number;
  lr: number;
  warmupLr: number;
  minLr: number;
  warmupEpochs: number;
  schedPer: "step" | "epoch";
  layerDecay: number;
  smoothing: number;
  mixup: number;
  cutmix: number;
  mixupProb: number;
  mixupSwitchProb: number;
  aa: string;
  colorJitter: number;
  reprob: number;
  remode: "pixel" | "rand" | "const";
  cropMin: number;
  hflip: number;
  trainInterpolation: "bicubic" | "bilinear" | "random";
  repeatedAug?: boolean;
  eval?: boolean;
}

/** Of `--repeated-aug`. */
const DEIT_REPEATS = 3;

/** Adds the flags: DeiT's under its names, with its defaults but for the epochs, and ours. */
export function addFinetuneFlags(command: Command): Command {
  const belowOne: Range = { least: 0, below: 1 };
  const options = [
    flag("--finetune, --pretrained <path>", "encoder to begin with: a checkpoint of any kind that moco convert reads, or the folder of a run"),
    flag("-a, --arch <name>", "architecture; without --pretrained it is trained from scratch (default: that of the checkpoint)"),
    whole("--heads <n>", "attention heads of a ViT, where the checkpoint does not tell them", 1),
    flag("--val <images>", "images to judge by, where they are not part of the data set"),
    whole("--num-classes <n>", "number of classes, for shards that do not name them", 1),
    whole("-b, --batch-size <n>", "images of one step", 1).default(64),
    whole("--epochs <n>", "epochs of the whole training", 1).default(100),
    whole("--input-size, --image-size <pixels>", "side of the square images (default: the checkpoint's; positions are interpolated)", 1),
    number("--drop-path <rate>", "stochastic depth: how often a sample skips a branch of the last block (default: 0.1, 0 for a ResNet)", belowOne),
    flag("--model-ema", "keep a moving average of the weights, evaluate and save it too"),
    number("--model-ema-decay <d>", "how much of the average stays at each step", belowOne).default(0.99996),

    flag("--opt <name>", "optimiser; sgd has Nesterov momentum").choices(["adamw", "sgd"]).default("adamw"),
    number("--opt-eps <eps>", "epsilon of AdamW", notNegative).default(1e-8),
    flag("--opt-betas <two>", "decay rates of AdamW, such as 0.9,0.95 (default: 0.9,0.999)").argParser(parseBetas),
    shared.momentum("SGD"),
    number("--clip-grad <norm>", "largest norm of the gradients (default: any)", positive),
    number("--wd, --weight-decay <w>", "weight decay; biases, norms, class token and positions have none", notNegative).default(0.05),
    number("--lr <rate>", "learning rate for a batch of 512; scaled with the batch size", notNegative).default(5e-4),
    number("--warmup-lr <rate>", "learning rate at which the warm-up begins", notNegative).default(1e-6),
    number("--min-lr <rate>", "learning rate that the cosine falls to", notNegative).default(1e-5),
    number("--warmup-epochs <n>", "epochs in which the learning rate rises to its peak", notNegative).default(5),
    flag("--sched-per <unit>", "when the learning rate changes: each step, or each epoch and one late, as in DeiT's program")
      .choices(["step", "epoch"]).default("step"),
    number("--layer-decay <factor>", "learning rate of each layer over that of the layer above", { above: 0, most: 1 }).default(1),

    number("--smoothing <share>", "label smoothing", belowOne).default(0.1),
    number("--mixup <alpha>", "parameter of mixup; 0 for none", notNegative).default(0.8),
    number("--cutmix <alpha>", "parameter of CutMix; 0 for none", notNegative).default(1),
    number("--mixup-prob <p>", "probability that a batch is mixed", fraction).default(1),
    number("--mixup-switch-prob <p>", "probability of CutMix where both are on", fraction).default(0.5),
    flag("--aa <policy>", "RandAugment, or none").default("rand-m9-mstd0.5-inc1"),
    number("--color-jitter <strength>", "colour jitter, where there is no RandAugment", notNegative).default(0.3),
    number("--reprob <p>", "probability of random erasing", fraction).default(0.25),
    flag("--remode <what>", "what is erased becomes noise in each pixel, one random colour, or the mean colour")
      .choices(["pixel", "rand", "const"]).default("pixel"),
    number("--crop-min <share>", "smallest share of an image's area that a crop shows", { above: 0, most: 1 }).default(0.08),
    number("--hflip <p>", "probability of a flip", fraction).default(0.5),
    flag("--train-interpolation <name>", "how images are resized; evaluation does the same").choices(["bicubic", "bilinear", "random"])
      .default("bicubic"),
    flag("--repeated-aug", "an epoch of a third of the images, each three times in a row, as DeiT for ImageNet"),
    shared.exif(),

    flag("--eval", "only evaluate the classifier that --resume leads to"),
    flag("--resume <path>", "go on from this checkpoint of a fine-tuning, or from that in its folder").default("", "none"),
    shared.out("finetune"),
    shared.autoResume(),
    shared.requeueSignal(),
    whole("--seed <n>", "seed of classifier, order and augmentation (default: a random one)", 0),
    shared.device(),
    shared.gpu(),
    ...shared.distributed(),
    shared.multiprocessing(),
    shared.distTimeout(),
    shared.precision("of the forward pass (default: fp16 on a GPU, as DeiT, fp32 on the CPU)"),
    shared.deterministic(),
    shared.workers(),
    shared.threads(),
    shared.maxBad(),
    shared.images(),
    shared.shuffleBuffer(),
    shared.noBackground(),
    shared.stopAfter(),
    shared.printFreq(),
    ...loggerFlags(),
    shared.config(),
    shared.quiet(),
    shared.json(),
  ];
  options.forEach((option) => command.addOption(option));
  return command;
}

/**
 * The flags as options of `finetune`.
 *
 * @throws UsageError for flags that contradict each other, or that say nothing of what to train
 */
export function toFinetuneOptions(data: string, flags: FinetuneFlags): FinetuneOptions {
  requireRestartable(flags);
  const { resume, pretrained, arch } = flags;
  if (flags.eval && flags.autoResume) throw new UsageError("--auto-resume goes on with a training, and --eval trains nothing; leave one of them out");
  if (flags.eval && resume === "") throw new UsageError("--eval needs a classifier: --resume with a checkpoint of a fine-tuning, or its folder");
  if (resume !== "" && pretrained !== undefined) {
    throw new UsageError("--pretrained begins a new run and --resume goes on with one; give --resume alone to go on");
  }
  if (resume === "" && pretrained === undefined && arch === undefined) {
    throw new UsageError("nothing says what to fine-tune: give a checkpoint (--pretrained), or, to train from scratch, an architecture (--arch)");
  }
  return {
    data,
    val: flags.val,
    numClasses: flags.numClasses,
    images: flags.images,
    shuffleBuffer: flags.shuffleBuffer,
    pretrained,
    arch,
    numHeads: flags.heads,
    imageSize: flags.imageSize,
    dropPath: flags.dropPath,
    optimizer: flags.opt,
    baseLr: flags.lr,
    weightDecay: flags.weightDecay,
    layerDecay: flags.layerDecay,
    momentum: flags.momentum,
    betas: flags.optBetas,
    eps: flags.optEps,
    clipGrad: flags.clipGrad,
    epochs: flags.epochs,
    batchSize: flags.batchSize,
    warmupEpochs: flags.warmupEpochs,
    warmupLr: flags.warmupLr,
    minLr: flags.minLr,
    schedule: flags.schedPer,
    smoothing: flags.smoothing,
    mixup: flags.mixup,
    cutmix: flags.cutmix,
    mixupProb: flags.mixupProb,
    mixupSwitchProb: flags.mixupSwitchProb,
    augmentation: {
      cropScale: [flags.cropMin, 1], interpolation: flags.trainInterpolation, flip: flags.hflip, randAugment: flags.aa,
      colorJitter: flags.colorJitter, erasing: { probability: flags.reprob, mode: flags.remode },
    },
    repeats: flags.repeatedAug ? DEIT_REPEATS : 1,
    exif: flags.exif,
    averageDecay: flags.modelEma ? flags.modelEmaDecay : undefined,
    device: deviceOf(flags),
    precision: flags.precision,
    deterministic: flags.deterministic,
    seed: flags.seed,
    threads: flags.threads,
    workers: flags.workers,
    maxBad: flags.maxBad,
    resume: resume === "" ? undefined : resume,
    autoResume: flags.autoResume,
    saveInBackground: flags.saveInBackground,
    stopAfter: flags.stopAfter,
  };
}

function parseBetas(text: string): [number, number] {
  const values = text.split(",").map((each) => (each.trim() === "" ? NaN : Number(each)));
  if (values.length === 2 && values.every((each) => each >= 0 && each < 1)) return values as [number, number];
  throw new InvalidArgumentError("It takes two numbers of at least 0 and below 1, such as 0.9,0.999.");
}
