import { type Command, InvalidArgumentError, Option } from "commander";
import type { PretrainOptions } from "../train/pretrainOptions.js";
import { numberIn, wholeFrom, type Range } from "./numberOption.js";
import { UsageError } from "./usageError.js";

/** Parsed flags of `moco pretrain`, under commander's names. */
export interface PretrainFlags {
  arch: string;
  workers: number;
  epochs: number;
  startEpoch: number;
  batchSize: number;
  learningRate: number;
  momentum: number;
  weightDecay: number;
  printFreq: number;
  resume: string;
  worldSize: number;
  rank: number;
  distUrl: string;
  distBackend: string;
  seed?: number;
  gpu?: number;
  multiprocessingDistributed?: boolean;
  mocoDim: number;
  mocoMlpDim: number;
  mocoM: number;
  mocoMCos?: boolean;
  mocoT: number;
  stopGradConv1?: boolean;
  optimizer: "lars" | "adamw";
  warmupEpochs: number;
  cropMin: number;
  out?: string;
  device?: string;
  precision?: "fp32" | "bf16" | "fp16";
  deterministic?: boolean;
  imageSize: number;
  patchSize?: number;
  threads?: number;
  maxBad: number;
  exif?: boolean;
  augment: "cpu" | "gpu";
  images?: number;
  shuffleBuffer?: number;
  saveEvery: SaveInterval;
  keep?: number;
  keepEvery?: number;
  init?: string;
  saveInBackground: boolean;
  stopAfter?: number;
  config?: string;
  quiet?: boolean;
  json?: boolean;
}

export type SaveInterval = { epochs: number } | { steps: number };

const ARCHITECTURES =
  "vit_small, vit_base, vit_conv_small, vit_conv_base, resnet18, resnet34, resnet50, resnet101, resnet152, resnext50_32x4d, " +
  "resnext101_32x8d, wide_resnet50_2, wide_resnet101_2";

/** Adds upstream's flags, with its names, short forms, defaults and meaning, and ours below them. */
export function addPretrainFlags(command: Command): Command {
  const flag = (flags: string, description: string): Option => new Option(flags, description);
  const whole = (flags: string, description: string, least: number): Option => flag(flags, description).argParser(wholeFrom(least));
  const number = (flags: string, description: string, range: Range): Option => flag(flags, description).argParser(numberIn(range));
  const positive: Range = { above: 0 };
  const notNegative: Range = { least: 0 };
  const fraction: Range = { least: 0, most: 1 };
  const options = [
    flag("-a, --arch <name>", `encoder: ${ARCHITECTURES}`).default("resnet50"),
    whole("-j, --workers <n>", "threads that prepare images, at most one for each core", 0).default(32),
    whole("--epochs <n>", "epochs of the whole training", 1).default(100),
    whole("--start-epoch <n>", "epoch to begin with, counted from 0, where no checkpoint tells", 0).default(0),
    whole("-b, --batch-size <n>", "images of one step", 2).default(4096),
    number("--lr, --learning-rate <rate>", "learning rate for a batch of 256; scaled with the batch size", notNegative).default(0.6),
    number("--momentum <m>", "momentum of LARS", { least: 0, below: 1 }).default(0.9),
    number("--wd, --weight-decay <w>", "weight decay", notNegative).default(1e-6),
    whole("-p, --print-freq <n>", "steps from one progress line to the next, without a terminal", 1).default(10),
    flag("--resume <path>", "go on from this checkpoint, ours or upstream's, or from the latest in a run's folder").default("", "none"),
    whole("--world-size <n>", "number of machines; only 1 is there yet", -1).default(-1),
    whole("--rank <n>", "number of this machine, from 0", -1).default(-1),
    flag("--dist-url <url>", "meeting point of several processes; not used by one").default("tcp://224.66.41.62:23456"),
    flag("--dist-backend <name>", "transport between several processes; not used by one").default("nccl"),
    whole("--seed <n>", "seed of weights, order and augmentation (default: a random one)", 0),
    whole("--gpu <n>", "train on this GPU, counted from 0", 0),
    flag("--multiprocessing-distributed", "one process for each GPU; only one process is there yet"),
    whole("--moco-dim <n>", "length of the contrasted features", 1).default(256),
    whole("--moco-mlp-dim <n>", "hidden width of projector and predictor", 1).default(4096),
    number("--moco-m <m>", "momentum of the momentum encoder", fraction).default(0.99),
    flag("--moco-m-cos", "let that momentum rise to 1 along half a cosine cycle"),
    number("--moco-t <t>", "softmax temperature", positive).default(1),
    flag("--stop-grad-conv1", "freeze a ViT's patch projection, for stability"),
    flag("--optimizer <name>", "optimiser").choices(["lars", "adamw"]).default("lars"),
    number("--warmup-epochs <n>", "epochs in which the learning rate rises to its peak", notNegative).default(10),
    number("--crop-min <share>", "smallest share of an image's area that a crop shows", { above: 0, most: 1 }).default(0.08),

    flag("--out <dir>", "folder for checkpoints and log (default: runs/ARCH-TIME, or that of the run that is resumed)"),
    flag("--device <name>", "cpu, cuda or cuda:N (default: the first GPU, else cpu)"),
    flag("--precision <name>", "of the forward pass (default: fp16 on a GPU, as upstream, fp32 on the CPU)")
      .choices(["fp32", "bf16", "fp16"]),
    flag("--deterministic", "on a GPU, only kernels that give the same bits in each run; the CPU's always do"),
    whole("--image-size <pixels>", "side of the square views", 1).default(224),
    whole("--patch-size <pixels>", "side of a ViT's patches (default: 16)", 1),
    whole("--threads <n>", "CPU threads of one operator (default: one for each core)", 1),
    number("--max-bad <share>", "share of the images that may be unreadable before the run stops", fraction).default(0.01),
    flag("--exif", "turn pictures upright as their EXIF orientation says, which upstream ignores"),
    flag("--augment <where>", "cpu: upstream's pixels; gpu: colour, blur and flip on the training's device, for loading that outruns it")
      .choices(["cpu", "gpu"]).default("cpu"),
    whole("--images <n>", "images of an epoch, where shards that come through a command do not tell", 1),
    whole("--shuffle-buffer <n>", "images of shards among which the next one is drawn (default: 1000)", 1),
    flag("--save-every <n>", "epochs from one checkpoint to the next; 500steps: also after every 500 steps")
      .argParser(parseSaveInterval).default({ epochs: 1 }, "1"),
    whole("--keep <n>", "keep only so many of the newest checkpoints of whole epochs (default: all)", 1),
    whole("--keep-every <n>", "keep those after every so many epochs for ever, besides the newest", 1),
    flag("--no-save-in-background", "let the training wait while a checkpoint is written; needs less memory"),
    flag("--init <file>", "begin with the encoder in a checkpoint of any kind that moco convert reads"),
    whole("--stop-after <steps>", "save and stop after so many steps of this run", 1),
    flag("--config <file>", "JSON file with flags as keys, such as {\"arch\": \"vit_small\", \"batch-size\": 256}; flags win"),
    flag("--quiet", "no progress"),
    flag("--json", "print the result as JSON"),
  ];
  options.forEach((option) => command.addOption(option));
  return command;
}

/**
 * The flags as options of `pretrain`.
 *
 * @throws UsageError for flags that contradict each other or ask for several processes
 */
export function toPretrainOptions(data: string, flags: PretrainFlags): PretrainOptions {
  requireOneProcess(flags);
  const { gpu, device } = flags;
  if (gpu !== undefined && device !== undefined && device !== `cuda:${gpu}`) {
    throw new UsageError(`--gpu ${gpu} and --device ${device} contradict each other; give one of them`);
  }
  return {
    data,
    encoder: flags.arch,
    imageSize: flags.imageSize,
    patchSize: flags.patchSize,
    stopGradConv1: flags.stopGradConv1,
    dim: flags.mocoDim,
    mlpDim: flags.mocoMlpDim,
    temperature: flags.mocoT,
    m: flags.mocoM,
    mCos: flags.mocoMCos,
    optimizer: flags.optimizer,
    baseLr: flags.learningRate,
    weightDecay: flags.weightDecay,
    momentum: flags.momentum,
    epochs: flags.epochs,
    warmupEpochs: flags.warmupEpochs,
    startEpoch: flags.startEpoch,
    batchSize: flags.batchSize,
    cropMin: flags.cropMin,
    device: gpu === undefined ? device : `cuda:${gpu}`,
    precision: flags.precision,
    deterministic: flags.deterministic,
    seed: flags.seed,
    threads: flags.threads,
    workers: flags.workers,
    maxBad: flags.maxBad,
    exif: flags.exif,
    augment: flags.augment,
    images: flags.images,
    shuffleBuffer: flags.shuffleBuffer,
    resume: flags.resume === "" ? undefined : flags.resume,
    saveEveryEpochs: "epochs" in flags.saveEvery ? flags.saveEvery.epochs : undefined,
    saveEverySteps: "steps" in flags.saveEvery ? flags.saveEvery.steps : undefined,
    keep: flags.keep,
    keepEvery: flags.keepEvery,
    saveInBackground: flags.saveInBackground,
    init: flags.init,
    stopAfter: flags.stopAfter,
  };
}

/** Upstream's distributed flags describe one process or, so far in vain, several. */
function requireOneProcess({ worldSize, rank, distUrl }: PretrainFlags): void {
  const remedy =
    "Training over several processes or machines is not there yet: this version trains on one device. " +
    "Leave the flag out, or say --world-size 1 --rank 0";
  if (worldSize === 0) throw new UsageError("--world-size is 0; give 1, the number of machines");
  if (worldSize > 1) throw new UsageError(`--world-size ${worldSize} asks for ${worldSize} machines. ${remedy}`);
  if (rank > 0) throw new UsageError(`--rank ${rank} asks for several machines. ${remedy}`);
  if (distUrl === "env://" && worldSize === -1) {
    throw new UsageError(`--dist-url env:// asks the environment for the number of processes. ${remedy}`);
  }
}

function parseSaveInterval(text: string): SaveInterval {
  const match = /^(\d+) ?(epochs?|steps?)?$/.exec(text.trim());
  const count = Number(match?.[1]);
  if (match === null || !Number.isSafeInteger(count) || count < 1) {
    throw new InvalidArgumentError("It takes a number of epochs of at least 1, such as 5, or of steps, such as 500steps.");
  }
  return match[2]?.startsWith("step") ? { steps: count } : { epochs: count };
}
