import { Option } from "commander";
import { UNUSED_URL } from "../distributed/distUrl.js";
import { numberIn, wholeFrom, type Range } from "./numberOption.js";
import { UsageError } from "./usageError.js";

/** Parsed flags that every training has, under commander's names. */
export interface TrainingFlags {
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
  distTimeout: number;
  seed?: number;
  gpu?: number;
  multiprocessingDistributed?: boolean;
  out?: string;
  autoResume?: boolean;
  requeueSignal?: "USR1" | "USR2";
  device?: string;
  precision?: "fp32" | "bf16" | "fp16";
  deterministic?: boolean;
  threads?: number;
  maxBad: number;
  exif?: boolean;
  saveInBackground: boolean;
  stopAfter?: number;
  config?: string;
  quiet?: boolean;
  json?: boolean;
}

export const positive: Range = { above: 0 };
export const notNegative: Range = { least: 0 };
export const fraction: Range = { least: 0, most: 1 };

export function flag(flags: string, description: string): Option {
  return new Option(flags, description);
}

/** A flag that takes a whole number of at least `least`. */
export function whole(flags: string, description: string, least: number): Option {
  return flag(flags, description).argParser(wholeFrom(least));
}

/** A flag that takes a number within limits. */
export function number(flags: string, description: string, range: Range): Option {
  return flag(flags, description).argParser(numberIn(range));
}

const ARCHITECTURES =
  "vit_small, vit_base, vit_conv_small, vit_conv_base, resnet18, resnet34, resnet50, resnet101, resnet152, resnext50_32x4d, " +
  "resnext101_32x8d, wide_resnet50_2, wide_resnet101_2";

/** Flags of all of upstream's programs, with its names, short forms and meaning; defaults where they are the same in all. */
export const shared = {
  arch: () => flag("-a, --arch <name>", `encoder: ${ARCHITECTURES}`),
  workers: () => whole("-j, --workers <n>", "threads that prepare images, at most one for each core", 0).default(32),
  startEpoch: () => whole("--start-epoch <n>", "epoch to begin with, counted from 0, where no checkpoint tells", 0).default(0),
  learningRate: () => number("--lr, --learning-rate <rate>", "learning rate for a batch of 256; scaled with the batch size", notNegative),
  momentum: (of: string) => number("--momentum <m>", `momentum of ${of}`, { least: 0, below: 1 }).default(0.9),
  weightDecay: () => number("--wd, --weight-decay <w>", "weight decay", notNegative),
  printFreq: () => whole("-p, --print-freq <n>", "steps from one progress line to the next, without a terminal", 1).default(10),
  distributed: () => [
    whole("--world-size <n>", "number of machines", -1).default(-1),
    whole("--rank <n>", "number of this machine, from 0", -1).default(-1),
    flag("--dist-url <url>", "where machines meet: tcp://HOST:PORT of machine 0, or env:// (MASTER_ADDR, MASTER_PORT)").default(UNUSED_URL),
    flag("--dist-backend <name>", "transport between GPUs, nccl or gloo; between CPUs it is always gloo").default("nccl"),
  ],
  gpu: () => whole("--gpu <n>", "train on this GPU, counted from 0", 0),
  multiprocessing: () => flag("--multiprocessing-distributed", "one process for each GPU of each machine"),

  // Ours.
  distTimeout: () => whole("--dist-timeout <seconds>", "how long one exchange between processes may take before the run ends", 1).default(600),
  out: (name: string) => flag("--out <dir>", `folder for checkpoints and log (default: runs/${name}-TIME, or that of the run that is resumed)`),
  autoResume: () => flag("--auto-resume", "go on from the latest checkpoint in --out, or begin where there is none: for jobs that are started again"),
  requeueSignal: () => flag("--requeue-signal <name>", "on this signal save, requeue the Slurm job and end; USR2 is no other's, USR1 Node.js's debugger's")
    .choices(["USR1", "USR2"]),
  device: () => flag("--device <name>", "cpu, cuda or cuda:N (default: the first GPU, else cpu)"),
  precision: (description: string) => flag("--precision <name>", description).choices(["fp32", "bf16", "fp16"]),
  deterministic: () => flag("--deterministic", "on a GPU, only kernels that give the same bits in each run; the CPU's always do"),
  threads: () => whole("--threads <n>", "CPU threads of one operator (default: one for each core)", 1),
  maxBad: () => number("--max-bad <share>", "share of the images that may be unreadable before the run stops", fraction).default(0.01),
  exif: () => flag("--exif", "turn pictures upright as their EXIF orientation says, which upstream ignores"),
  images: () => whole("--images <n>", "images of an epoch, where shards that come through a command do not tell", 1),
  shuffleBuffer: () => whole("--shuffle-buffer <n>", "images of shards among which the next one is drawn (default: 1000)", 1),
  noBackground: () => flag("--no-save-in-background", "let the training wait while a checkpoint is written; needs less memory"),
  stopAfter: () => whole("--stop-after <steps>", "save and stop after so many steps of this run", 1),
  config: () => flag("--config <file>", "JSON file with flags as keys, such as {\"arch\": \"vit_small\", \"batch-size\": 256}; flags win"),
  quiet: () => flag("--quiet", "no progress"),
  json: () => flag("--json", "print the result as JSON"),
};

/**
 * The device that upstream's `--gpu` or our `--device` names.
 *
 * @throws UsageError where they contradict each other
 */
export function deviceOf({ gpu, device }: Pick<TrainingFlags, "gpu" | "device">): string | undefined {
  if (gpu === undefined) return device;
  if (device === undefined || device === `cuda:${gpu}`) return `cuda:${gpu}`;
  throw new UsageError(`--gpu ${gpu} and --device ${device} contradict each other; give one of them`);
}

/**
 * A job that starts itself again finds its run only in a folder that is the same each time.
 *
 * @throws UsageError where a flag lacks the one that it needs
 */
export function requireRestartable({ out, autoResume, requeueSignal }: Pick<TrainingFlags, "out" | "autoResume" | "requeueSignal">): void {
  if (autoResume && out === undefined) throw new UsageError("--auto-resume goes on with what is in the run's folder; name it: --out DIR");
  if (requeueSignal !== undefined && !autoResume) {
    throw new UsageError(`--requeue-signal ${requeueSignal} has the job started again, which then goes on by itself only with --auto-resume; add it`);
  }
}
