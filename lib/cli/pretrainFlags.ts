import { type Command, InvalidArgumentError } from "commander";
import type { PretrainOptions } from "../train/pretrainOptions.js";
import { loggerFlags, type LoggerFlags } from "./loggerFlags.js";
import { deviceOf, flag, fraction, notNegative, number, positive, requireRestartable, shared, whole, type TrainingFlags } from "./trainingFlags.js";

/** Parsed flags of `moco pretrain`, under commander's names. */
export interface PretrainFlags extends Omit<TrainingFlags, "precision">, LoggerFlags {
  precision?: PretrainOptions["precision"];
  tf32?: boolean;
  mocoDim: number;
  mocoMlpDim: number;
  mocoM: number;
  mocoMCos?: boolean;
  mocoT: number;
  stopGradConv1?: boolean;
  microBatch?: number;
  optimizer: "lars" | "adamw";
  warmupEpochs: number;
  cropMin: number;
  imageSize: number;
  patchSize?: number;
  augment: "cpu" | "gpu";
  cudaGraph: "auto" | "on" | "off";
  images?: number;
  shuffleBuffer?: number;
  saveEvery: SaveInterval;
  keep?: number;
  keepEvery?: number;
  init?: string;
  clipGrad?: number;
  watch: boolean;
  onSpike: "warn" | "skip" | "rollback";
  spikeRatio: number;
  rollbackSteps: number;
  replay?: string;
  knnEvery?: number;
  knnData?: string;
  knnImages?: number;
  plan?: boolean;
}

export type SaveInterval = { epochs: number } | { steps: number };

/** Adds upstream's flags, with its names, short forms, defaults and meaning, and ours below them. */
export function addPretrainFlags(command: Command): Command {
  const options = [
    shared.arch().default("resnet50"),
    shared.workers(),
    whole("--epochs <n>", "epochs of the whole training", 1).default(100),
    shared.startEpoch(),
    whole("-b, --batch-size <n>", "images of one step", 2).default(4096),
    shared.learningRate().default(0.6),
    shared.momentum("LARS"),
    shared.weightDecay().default(1e-6),
    shared.printFreq(),
    flag("--resume <path>", "go on from this checkpoint, ours or upstream's, or from the latest in a run's folder").default("", "none"),
    ...shared.distributed(),
    whole("--seed <n>", "seed of weights, order and augmentation (default: a random one)", 0),
    shared.gpu(),
    shared.multiprocessing(),
    whole("--moco-dim <n>", "length of the contrasted features", 1).default(256),
    whole("--moco-mlp-dim <n>", "hidden width of projector and predictor", 1).default(4096),
    number("--moco-m <m>", "momentum of the momentum encoder", fraction).default(0.99),
    flag("--moco-m-cos", "let that momentum rise to 1 along half a cosine cycle"),
    number("--moco-t <t>", "softmax temperature", positive).default(1),
    flag("--stop-grad-conv1", "freeze a ViT's patch projection, for stability"),
    flag("--optimizer <name>", "optimiser").choices(["lars", "adamw"]).default("lars"),
    number("--warmup-epochs <n>", "epochs in which the learning rate rises to its peak", notNegative).default(10),
    number("--crop-min <share>", "smallest share of an image's area that a crop shows", { above: 0, most: 1 }).default(0.08),

    shared.distTimeout(),
    shared.out("ARCH"),
    shared.autoResume(),
    shared.requeueSignal(),
    shared.device(),
    shared.precision("of the forward pass; auto, the default: bf16 for plain ViTs and fp16 for networks with convolutions on a GPU, fp32 on the CPU; fp16 is upstream's; fp64: to compare trainings")
      .choices(["auto", "fp32", "bf16", "fp16", "fp64"]),
    flag("--tf32", "round float32 to TF32 in a GPU's matrix products: faster with --precision fp32"),
    shared.deterministic(),
    flag("--cuda-graph <when>", "launch a step as two CUDA graphs: the same numbers, sooner where a step has few images; auto: where it can be")
      .choices(["auto", "on", "off"]).default("off"),
    whole("--image-size <pixels>", "side of the square views", 1).default(224),
    whole("--patch-size <pixels>", "side of a ViT's patches (default: 16)", 1),
    whole("--micro-batch <n>", "encode so many images at once: less memory, 1/4 to 1/3 more time, a ViT's gradients the same", 1),
    shared.threads(),
    shared.maxBad(),
    shared.exif(),
    flag("--augment <where>", "cpu: upstream's pixels; gpu: colour, blur and flip on the training's device, for loading that outruns it")
      .choices(["cpu", "gpu"]).default("cpu"),
    shared.images(),
    shared.shuffleBuffer(),
    flag("--save-every <n>", "epochs from one checkpoint to the next; 500steps: also after every 500 steps")
      .argParser(parseSaveInterval).default({ epochs: 1 }, "1"),
    whole("--keep <n>", "keep only so many of the newest checkpoints of whole epochs (default: all)", 1),
    whole("--keep-every <n>", "keep those after every so many epochs for ever, besides the newest", 1),
    shared.noBackground(),
    flag("--init <file>", "begin with the encoder in a checkpoint of any kind that moco convert reads"),
    shared.stopAfter(),
    number("--clip-grad <norm>", "shrink gradients whose norm over all weights is larger (default: never)", positive),
    flag("--on-spike <what>", "a step whose gradient spikes: warn, skip it, or rollback to an earlier state and go on past it")
      .choices(["warn", "skip", "rollback"]).default("warn"),
    number("--spike-ratio <times>", "how many times its usual norm makes a gradient a spike", { least: 1 }).default(10),
    whole("--rollback-steps <n>", "steps from one state that --on-spike rollback goes back to, to the next", 1).default(100),
    flag("--no-watch", "read no signals of instability (gradients by layer, spread of features, accuracy)"),
    flag("--replay <file>", "do the step again that stopped a run (failed_step_*.pth.tar), and say where it is not finite; takes no data"),
    whole("--knn-every <n>", "judge the encoder by kNN after every so many epochs, and after the last; needs labels", 1),
    flag("--knn-data <dir>", "labelled images to judge by (default: the training's own)"),
    whole("--knn-images <n>", "judge by only so many images, at random, always the same ones (default: all)", 1),
    flag("--plan", "train nothing: say what memory, time and disk this run would take here, and which --micro-batch fits"),
    ...loggerFlags(),
    shared.config(),
    shared.quiet(),
    shared.json(),
  ];
  options.forEach((option) => command.addOption(option));
  return command;
}

/**
 * The flags as options of `pretrain`.
 *
 * @throws UsageError for flags that contradict each other
 */
export function toPretrainOptions(data: string, flags: PretrainFlags): PretrainOptions {
  requireRestartable(flags);
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
    microBatch: flags.microBatch,
    cropMin: flags.cropMin,
    device: deviceOf(flags),
    precision: flags.precision,
    tf32: flags.tf32,
    deterministic: flags.deterministic,
    seed: flags.seed,
    threads: flags.threads,
    workers: flags.workers,
    maxBad: flags.maxBad,
    exif: flags.exif,
    augment: flags.augment,
    cudaGraph: flags.cudaGraph,
    images: flags.images,
    shuffleBuffer: flags.shuffleBuffer,
    resume: flags.resume === "" ? undefined : flags.resume,
    autoResume: flags.autoResume,
    saveEveryEpochs: "epochs" in flags.saveEvery ? flags.saveEvery.epochs : undefined,
    saveEverySteps: "steps" in flags.saveEvery ? flags.saveEvery.steps : undefined,
    keep: flags.keep,
    keepEvery: flags.keepEvery,
    saveInBackground: flags.saveInBackground,
    init: flags.init,
    stopAfter: flags.stopAfter,
    clipGrad: flags.clipGrad,
    watch: flags.watch,
    onSpike: flags.onSpike,
    spikeRatio: flags.spikeRatio,
    rollbackSteps: flags.rollbackSteps,
    knnEvery: flags.knnEvery,
    knnData: flags.knnData,
    knnImages: flags.knnImages,
  };
}

function parseSaveInterval(text: string): SaveInterval {
  const match = /^(\d+) ?(epochs?|steps?)?$/.exec(text.trim());
  const count = Number(match?.[1]);
  if (match === null || !Number.isSafeInteger(count) || count < 1) {
    throw new InvalidArgumentError("It takes a number of epochs of at least 1, such as 5, or of steps, such as 500steps.");
  }
  return match[2]?.startsWith("step") ? { steps: count } : { epochs: count };
}
