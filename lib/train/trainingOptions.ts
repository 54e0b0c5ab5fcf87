import type { ProcessGroup } from "../distributed/index.js";
import { requireRange, requireWholeIfGiven, resolveDevice } from "./options.js";
import { coresOfRank, deviceOfRank } from "./ranks/share.js";
import { resolveLogging, type LoggingOptions } from "./runs/logging.js";
import { requireStableFolder } from "./runs/resuming.js";

/** What every training can be told. */
export interface TrainingOptions extends LoggingOptions {
  /** `"cpu"`, `"cuda"` or `"cuda:N"`. Default: the first GPU, where there is one. */
  device?: string;
  /** Images of an epoch, where a stream's shards do not tell. */
  images?: number;
  /** Images among which a stream's next one is drawn. */
  shuffleBuffer?: number;
  /** Default: a random one, or that of the checkpoint that is resumed. */
  seed?: number;
  /** Threads of one operator on the CPU. Default: libtorch's choice. */
  threads?: number;
  /** Threads that prepare images, at most as many as the machine has. Default 32. */
  workers?: number;
  /** Keep decoded images in memory, as far as they fit. Default false. */
  cacheImages?: boolean;
  /** Turn pictures upright as their EXIF orientation says. Default false, as upstream. */
  exif?: boolean;
  /** Fraction of the images that may be unreadable. Default 0.01. */
  maxBad?: number;

  /** Folder for checkpoints and log. Without it nothing is written. */
  out?: string;
  /**
   * Go on from the latest checkpoint in `out`, which must be given, or begin where there is none: a job that is started again and again
   * with the same options comes to its end. A latest checkpoint that is damaged is kept under another name, and told. Default false.
   */
  autoResume?: boolean;
  /** Write checkpoints in the background: the training waits only for a copy in memory. Default true. */
  saveInBackground?: boolean;
  /** Stop after this many steps of this call, and save. Default: run to the end. */
  stopAfter?: number;
}

/**
 * Fills in the defaults of what all trainings can be told, and checks it.
 *
 * @throws OptionError that names the option, its value and what is allowed
 */
export function resolveTraining(options: TrainingOptions & { resume?: string; group?: ProcessGroup }) {
  const { group, images, shuffleBuffer } = options;
  const cores = coresOfRank(group);
  const training = {
    device: resolveDevice(options.device ?? deviceOfRank(group)),
    seed: options.seed ?? null,
    threads: options.threads ?? (group === undefined ? null : cores),
    // Upstream's 0 means the training's own process; here there is always a thread.
    workers: Math.max(1, Math.min(options.workers ?? 32, cores)),
    worldSize: group?.size ?? 1,
    cacheImages: options.cacheImages ?? false,
    exif: options.exif ?? false,
    maxBad: options.maxBad ?? 0.01,
    out: options.out ?? null,
    autoResume: options.autoResume ?? false,
    resume: options.resume ?? null,
    saveInBackground: options.saveInBackground ?? true,
    stopAfter: options.stopAfter ?? null,
    logging: resolveLogging(options),
  };
  const { seed, threads, stopAfter } = training;
  for (const [name, value] of Object.entries({ images, shuffleBuffer, threads, stopAfter })) requireWholeIfGiven(name, value, 1);
  requireWholeIfGiven("seed", seed, 0);
  requireWholeIfGiven("workers", options.workers, 0);
  requireRange("maxBad", training.maxBad, 0, 1);
  requireStableFolder(training);
  return training;
}
