import { expect, test } from "@jest/globals";
import type { LoadAnswer } from "../../scripts/bench/dataProtocol.js";
import { flatness, stageRatios, thinned, throughputRatios, type Rounds } from "../../scripts/bench/dataRatios.js";

/** An answer with these images per second and per second of CPU time, and stages that took `stage` seconds each. */
function answer(images: number, perSecond: number, perCpuSecond: number, stage = 1): LoadAnswer {
  const stages = { decode: stage, crop: stage, colour: stage, blur: stage, normalise: stage };
  return { images, seconds: images / perSecond, cpuSeconds: images / perCpuSecond, stages, memory: [] };
}

const rounds: Rounds = {
  oneCore: {
    ours: [answer(1000, 600, 500), answer(1000, 700, 600), answer(1000, 100, 90)],
    python: [answer(100, 100, 100), answer(100, 100, 100), answer(100, 100, 100)],
  },
  allCores: { ours: [answer(2000, 1080, 540)], python: [answer(200, 150, 75)] },
  crops: [answer(1000, 1200, 1100), answer(1000, 1200, 1100), answer(1000, 1200, 1100)],
};

test("throughput is ours over Python's, median of the rounds, whatever the numbers of images", () => {
  const one = { ...rounds, allCores: { ours: rounds.oneCore.ours, python: rounds.oneCore.python } };
  const ratios = throughputRatios(one, 1);
  expect(ratios.oneCoreImagesPerSecond).toBeCloseTo(6, 10);
  expect(ratios.oneCoreImagesPerCpuSecond).toBeCloseTo(5, 10);
  expect(ratios.gpuAugmentImagesPerCpuSecond).toBeCloseTo(11, 10);
  expect(ratios.scaling).toBeCloseTo(1, 10);
});

test("scaling is what all cores load over what as many single ones would", () => {
  const first: Rounds = {
    oneCore: { ours: rounds.oneCore.ours.slice(0, 1), python: rounds.oneCore.python.slice(0, 1) },
    allCores: rounds.allCores, crops: rounds.crops.slice(0, 1),
  };
  const { scaling, scalingPython, allCoresImagesPerSecond, allCoresImagesPerCpuSecond } = throughputRatios(first, 2);
  expect(scaling).toBeCloseTo(0.9, 10);
  expect(scalingPython).toBeCloseTo(0.75, 10);
  expect(allCoresImagesPerSecond).toBeCloseTo(7.2, 10);
  expect(allCoresImagesPerCpuSecond).toBeCloseTo(7.2, 10);
});

test("a stage's time is compared per image", () => {
  const ratios = stageRatios({
    ...rounds, oneCore: { ours: [answer(1000, 1, 1, 0.5)], python: [answer(100, 1, 1, 0.25)] },
  });
  expect(Object.keys(ratios)).toEqual(["decodeTime", "cropTime", "colourTime", "blurTime", "normaliseTime"]);
  for (const ratio of Object.values(ratios)) expect(ratio).toBeCloseTo(0.2, 10);
});

test("memory that stays is flat, a leak is a slope, and the warm-up counts for neither", () => {
  const flat = Array.from({ length: 40 }, (_, i): [number, number] => [10 * (i + 1), i < 10 ? 100 * i : 5000 + (i % 2)]);
  expect(flatness(flat)).toMatchObject({ peak: 5001, spread: 1, growth: 1 });
  expect(Math.abs(flatness(flat).perThousandImages)).toBeLessThan(1);
  const leak = Array.from({ length: 40 }, (_, i): [number, number] => [10 * (i + 1), 1000 + 30 * i]);
  expect(flatness(leak).perThousandImages).toBeCloseTo(3000, 8);
  expect(flatness(leak).spread).toBe(29 * 30);
  expect(flatness(leak).growth).toBeCloseTo((1000 + 30 * 34.5) / (1000 + 30 * 14.5), 10);
});

test("a long record is thinned at equal distances and keeps its end", () => {
  const samples = Array.from({ length: 512 }, (_, i): [number, number] => [i, i]);
  const kept = thinned(samples);
  expect(kept).toHaveLength(32);
  expect(kept.at(-1)).toEqual([511, 511]);
  expect(thinned(samples.slice(0, 5))).toHaveLength(5);
});
