// From what was measured to the figures of the data benchmark.
import type { LoadAnswer, Stages } from "./dataProtocol.js";
import { median } from "./spread.js";

export type Side = "ours" | "python";

/** Answers, round by round. */
export interface Rounds {
  oneCore: Record<Side, LoadAnswer[]>;
  allCores: Record<Side, LoadAnswer[]>;
  /** Ours on one core, decoding and cropping only. */
  crops: LoadAnswer[];
}

export const stageNames = ["decode", "crop", "colour", "blur", "normalise"] as const satisfies readonly (keyof Stages)[];

export function perSecond({ images, seconds }: LoadAnswer): number {
  return images / seconds;
}

export function perCpuSecond({ images, cpuSeconds }: LoadAnswer): number {
  return images / cpuSeconds;
}

/** Median over rounds of one answer's figure over another's. */
function ratio(ours: readonly LoadAnswer[], theirs: readonly LoadAnswer[], figure: (answer: LoadAnswer) => number): number {
  return median(ours.map((answer, round) => figure(answer) / figure(theirs[round] as LoadAnswer)));
}

export function throughputRatios({ oneCore, allCores, crops }: Rounds, cores: number): Record<string, number> {
  return {
    oneCoreImagesPerSecond: ratio(oneCore.ours, oneCore.python, perSecond),
    oneCoreImagesPerCpuSecond: ratio(oneCore.ours, oneCore.python, perCpuSecond),
    gpuAugmentImagesPerCpuSecond: ratio(crops, oneCore.python, perCpuSecond),
    allCoresImagesPerSecond: ratio(allCores.ours, allCores.python, perSecond),
    allCoresImagesPerCpuSecond: ratio(allCores.ours, allCores.python, perCpuSecond),
    scaling: ratio(allCores.ours, oneCore.ours, perSecond) / cores,
    scalingPython: ratio(allCores.python, oneCore.python, perSecond) / cores,
  };
}

export function stageRatios({ oneCore }: Rounds): Record<string, number> {
  const time = (stage: keyof Stages) => ({ stages, images }: LoadAnswer): number => stages[stage] / images;
  return Object.fromEntries(stageNames.map((stage) => [`${stage}Time`, ratio(oneCore.ours, oneCore.python, time(stage))]));
}

/** The figures themselves: images per second, and milliseconds per image and stage. */
export function mediansOf({ oneCore, allCores, crops }: Rounds): Record<string, unknown> {
  const rates = (answers: readonly LoadAnswer[]) => ({
    imagesPerSecond: median(answers.map(perSecond)),
    imagesPerCpuSecond: median(answers.map(perCpuSecond)),
  });
  const stages = (answers: readonly LoadAnswer[]): Record<string, number> =>
    Object.fromEntries(stageNames.map((stage) => [stage, median(answers.map((each) => (1000 * each.stages[stage]) / each.images))]));
  const both = <T>(pair: Record<Side, LoadAnswer[]>, make: (answers: readonly LoadAnswer[]) => T): Record<Side, T> =>
    ({ ours: make(pair.ours), python: make(pair.python) });
  return {
    oneCore: both(oneCore, rates), crops: rates(crops), allCores: both(allCores, rates), stageMilliseconds: both(oneCore, stages),
    cropsStageMilliseconds: stages(crops),
  };
}

/** How memory went over an epoch; all in bytes but `growth`. */
export interface Flatness {
  peak: number;
  /** Largest less smallest after the first quarter. */
  spread: number;
  /** Slope of the line through all after the first quarter. */
  perThousandImages: number;
  /** Median of the last quarter over that of the second. */
  growth: number;
}

/** @param samples at regular intervals, at least four */
export function flatness(samples: LoadAnswer["memory"]): Flatness {
  const bytes = samples.map(([, each]) => each);
  const quarter = Math.floor(samples.length / 4);
  const settled = samples.slice(quarter);
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const meanImages = mean(settled.map(([images]) => images));
  const meanBytes = mean(settled.map(([, each]) => each));
  const covariance = mean(settled.map(([images, each]) => (images - meanImages) * (each - meanBytes)));
  const variance = mean(settled.map(([images]) => (images - meanImages) ** 2));
  return {
    peak: Math.max(...bytes),
    spread: Math.max(...bytes.slice(quarter)) - Math.min(...bytes.slice(quarter)),
    perThousandImages: (1000 * covariance) / variance,
    growth: median(bytes.slice(-quarter)) / median(bytes.slice(quarter, 2 * quarter)),
  };
}

/** At most 32 of the samples, at equal distances. */
export function thinned(samples: LoadAnswer["memory"]): LoadAnswer["memory"] {
  const every = Math.ceil(samples.length / 32);
  return samples.filter((_, i) => (i + 1) % every === 0);
}
