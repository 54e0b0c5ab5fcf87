import type { TrialStep } from "./trialRun.js";

/** Seconds of a step as a function of its images: what every step costs, and what each image adds. */
export interface StepTime {
  fixed: number;
  perImage: number;
}

/** A re-encoding of each chunk comes on top of forward and backward in one encoder and forward in the other: 5 passes in place of 4. */
const CHUNKED_PASSES = 5 / 4;

/**
 * A line through the two largest batches that were tried, each at its best.
 *
 * The clock's noise must neither let a step of many images cost nothing nor make a small one negative: each image costs at least half of
 * what the largest batch's images cost on average.
 */
export function fitStepTime(steps: readonly Pick<TrialStep, "batch" | "seconds">[]): StepTime {
  const best = steps.map(({ batch, seconds }) => ({ batch, seconds: Math.min(...seconds) })).sort((a, b) => a.batch - b.batch);
  const large = best.at(-1)!;
  const small = best.at(-2);
  const average = large.seconds / large.batch;
  const slope = small === undefined ? average : (large.seconds - small.seconds) / (large.batch - small.batch);
  const perImage = Math.min(Math.max(slope, average / 2), average);
  return { fixed: large.seconds - perImage * large.batch, perImage };
}

/** Seconds of a step of `batch` images that computes all the time. */
export function computeSeconds({ fixed, perImage }: StepTime, batch: number, chunk: number | null): number {
  const chunked = chunk !== null && chunk < batch;
  return fixed + perImage * batch * (chunked ? CHUNKED_PASSES : 1);
}

export interface Pace {
  /** Seconds of a step, with what loading adds. */
  stepSeconds: number;
  /** Of them computing. */
  computeSeconds: number;
  /** In which the loader makes a step's images, by itself. */
  loadSeconds: number;
  /** What a step waits for. */
  bottleneck: "computing" | "loading";
  /** Threads with which loading would not be waited for, or null on a CPU, whose cores do both. */
  threadsNeeded: number | null;
}

/**
 * How loading and computing meet. A GPU computes while the cores load: the slower of the two counts. On the CPU the same cores do both, one
 * after the other.
 */
export function paceOf(
  { batch, compute, imagesPerCoreSecond, threads, cores, onGpu }:
  { batch: number; compute: number; imagesPerCoreSecond: number; threads: number; cores: number; onGpu: boolean },
): Pace {
  const coreSeconds = batch / imagesPerCoreSecond;
  const loadSeconds = coreSeconds / Math.min(threads, cores);
  const stepSeconds = onGpu ? Math.max(compute, loadSeconds) : compute + coreSeconds / cores;
  return {
    stepSeconds, computeSeconds: compute, loadSeconds, bottleneck: loadSeconds > compute ? "loading" : "computing",
    threadsNeeded: onGpu ? Math.ceil(coreSeconds / compute) : null,
  };
}
