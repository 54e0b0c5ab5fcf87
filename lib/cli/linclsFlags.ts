import { type Command, InvalidArgumentError } from "commander";
import type { LinearProbeOptions } from "../train/linearProbe/linearOptions.js";
import { loggerFlags, type LoggerFlags } from "./loggerFlags.js";
import { deviceOf, flag, number, requireRestartable, shared, whole, type TrainingFlags } from "./trainingFlags.js";
import { UsageError } from "./usageError.js";

/** Parsed flags of `moco lincls`, under commander's names. */
export interface LinclsFlags extends Omit<TrainingFlags, "arch">, LoggerFlags {
  arch?: string;
  evaluate?: boolean;
  pretrained: string;
  val?: string;
  numClasses?: number;
  heads?: number;
  imageSize?: number;
  cropMin: number;
  cacheFeatures?: boolean;
  cacheViews?: number;
  featureMemory: number;
  sweep?: number[];
  images?: number;
  shuffleBuffer?: number;
}

/** Adds upstream's flags, with its names, short forms, defaults and meaning, and ours below them. */
export function addLinclsFlags(command: Command): Command {
  const options = [
    shared.arch().argParser((name) => name).default(undefined, "that of the checkpoint, resnet50 without one"),
    shared.workers(),
    whole("--epochs <n>", "epochs of the whole training", 1).default(90),
    shared.startEpoch(),
    whole("-b, --batch-size <n>", "images of one step", 1).default(1024),
    shared.learningRate().default(0.1),
    shared.momentum("SGD"),
    shared.weightDecay().default(0),
    shared.printFreq(),
    flag("--resume <path>", "go on from this checkpoint, ours or upstream's, or from that in a run's folder").default("", "none"),
    flag("-e, --evaluate", "evaluate on the validation images, and do nothing else"),
    ...shared.distributed(),
    whole("--seed <n>", "seed of the classifier's start, of order and crops (default: a random one)", 0),
    shared.gpu(),
    shared.multiprocessing(),
    flag("--pretrained <path>", "the encoder: a checkpoint of any kind that moco convert reads, or a run's folder").default("", "none"),

    flag("--val <data>", "images to judge by (default: val/ beside train/, or the data set's own)"),
    whole("--num-classes <n>", "outputs of the classifier, where that is not the number of classes; upstream's have 1000", 1),
    shared.distTimeout(),
    shared.out("lincls"),
    shared.autoResume(),
    shared.requeueSignal(),
    shared.device(),
    shared.precision("of the frozen encoder (default: fp32, as upstream)"),
    whole("--image-size <pixels>", "side of the square input (default: what the encoder was trained on, 224 where its file does not tell)", 1),
    whole("--heads <n>", "attention heads of a ViT, where the checkpoint does not tell", 1),
    number("--crop-min <share>", "smallest share of an image's area that a crop shows", { above: 0, most: 1 }).default(0.08),
    flag("--cache-features", "compute the features once, of each image's centre: fast, and without upstream's random crops"),
    whole("--cache-views <n>", "compute the features of so many random crops of each image once", 1),
    number("--feature-memory <GiB>", "features that are kept in memory; more go into a file in the run's folder", { least: 0 }).default(2),
    flag("--sweep <rates>", "train a classifier for each of these learning rates at once, such as 0.01,0.1,1; keeps the best").argParser(parseRates),
    shared.threads(),
    shared.maxBad(),
    shared.exif(),
    shared.images(),
    shared.shuffleBuffer(),
    shared.noBackground(),
    shared.stopAfter(),
    ...loggerFlags(),
    shared.config(),
    shared.quiet(),
    shared.json(),
  ];
  options.forEach((option) => command.addOption(option));
  return command;
}

/**
 * The flags as options of `linearProbe`.
 *
 * @param rateGiven whether the user has given a learning rate
 * @throws UsageError for flags that contradict each other
 */
export function toLinearProbeOptions(data: string, flags: LinclsFlags, rateGiven: boolean): LinearProbeOptions {
  requireRestartable(flags);
  if (flags.sweep !== undefined && rateGiven) {
    throw new UsageError("--lr and --sweep both give learning rates; give one of them");
  }
  return {
    data,
    val: flags.val,
    numClasses: flags.numClasses,
    pretrained: flags.pretrained === "" ? undefined : flags.pretrained,
    arch: flags.arch,
    numHeads: flags.heads,
    imageSize: flags.imageSize,
    epochs: flags.epochs,
    startEpoch: flags.startEpoch,
    batchSize: flags.batchSize,
    baseLr: flags.sweep === undefined ? flags.learningRate : undefined,
    sweep: flags.sweep,
    momentum: flags.momentum,
    weightDecay: flags.weightDecay,
    cropMin: flags.cropMin,
    cacheFeatures: flags.cacheFeatures,
    cacheViews: flags.cacheViews,
    featureMemory: flags.featureMemory * 2 ** 30,
    evaluate: flags.evaluate,
    device: deviceOf(flags),
    precision: flags.precision,
    seed: flags.seed,
    threads: flags.threads,
    workers: flags.workers,
    maxBad: flags.maxBad,
    exif: flags.exif,
    images: flags.images,
    shuffleBuffer: flags.shuffleBuffer,
    resume: flags.resume === "" ? undefined : flags.resume,
    autoResume: flags.autoResume,
    saveInBackground: flags.saveInBackground,
    stopAfter: flags.stopAfter,
  };
}

function parseRates(text: string): number[] {
  const rates = text.split(",").map((each) => (each.trim() === "" ? NaN : Number(each)));
  if (rates.every((rate) => Number.isFinite(rate) && rate > 0) && new Set(rates).size === rates.length) return rates;
  throw new InvalidArgumentError("It takes learning rates above 0 with commas between them, each once, such as 0.01,0.03,0.1.");
}
