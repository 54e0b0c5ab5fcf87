/** The cost model against published counts, measured peaks and itself. */
import { describe, expect, test } from "@jest/globals";
import { checkpointInterval, lostShare } from "../../../lib/train/planning/clusterPlan.js";
import { keptCheckpoints } from "../../../lib/train/planning/checkpointPlan.js";
import { chooseChunk } from "../../../lib/train/planning/chunkChoice.js";
import { allGatherSeconds, allReduceSeconds, collectivesOf } from "../../../lib/train/planning/communication.js";
import { gpuTypes } from "../../../lib/train/planning/gpuTypes.js";
import { parseGpuFacts } from "../../../lib/train/planning/machine.js";
import { planMemory, stateBytes, type MemorySetting } from "../../../lib/train/planning/memoryPlan.js";
import { encoderStepFlop, type NetworkCost } from "../../../lib/train/planning/networkCost.js";
import { costOf } from "../../../lib/train/planning/planPretraining.js";
import { computeSeconds, fitStepTime, paceOf } from "../../../lib/train/planning/timePlan.js";
import { allocatorFactor, trialBytes } from "../../../lib/train/planning/allocator.js";
import { runTrial, TrialError } from "../../../lib/train/planning/trialRun.js";
import { onGpu } from "../../../scripts/bench/plan.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";

expectNoTensorsLeft();

const heads = { patchSize: null, dim: 256, mlpDim: 4096, imageSize: 224, stopGradConv1: true };
const costs = new Map<string, NetworkCost>();
function costFor(encoder: string): NetworkCost {
  const known = costs.get(encoder) ?? costOf({ ...heads, encoder });
  costs.set(encoder, known);
  return known;
}

describe("networks", () => {
  // What docs/benchmarks.md counts, in GFLOP an image and step.
  test.each([["vit_small", 73.4], ["vit_base", 280.4], ["vit_conv_small", 73.5], ["resnet50", 65.4]])("%s has %d GFLOP", (arch, gflop) => {
    expect(Math.abs(encoderStepFlop(costFor(arch)) / 1e9 / gflop - 1)).toBeLessThan(0.005);
  });

  // Multiply-adds of a forward pass without classifier, in 10^9, as torchvision publishes them.
  test.each([["resnet18", 1.814], ["resnet101", 7.8], ["resnext50_32x4d", 4.23]])("%s has %d G multiply-adds", (arch, published) => {
    expect(Math.abs(costFor(arch).encoder.cost.flop / 2e9 / published - 1)).toBeLessThan(0.01);
  });

  test("collectives: a ViT has batch normalisation in its heads, a ResNet everywhere", () => {
    expect(collectivesOf(costFor("vit_small"))).toMatchObject({ normGathers: 16, normReductions: 10, keyGathers: 2 });
    expect(collectivesOf(costFor("vit_conv_small"))).toMatchObject({ normGathers: 32, normReductions: 18 });
    expect(collectivesOf(costFor("resnet50"))).toMatchObject({ normGathers: 222, normReductions: 112 });
  });

  test("a checkpoint of ViT-B with AdamW has the size of the recorded one", () => {
    expect(stateBytes(costFor("vit_base"), "adamw").checkpoint / 1_733_029_075).toBeCloseTo(1, 2);
  });
});

test("memory and time of the steps recorded on an H200", () => {
  const rows = onGpu();
  expect(rows.length).toBeGreaterThanOrEqual(10);
  for (const { bytes, seconds } of rows) {
    expect(Math.abs(bytes.predicted / bytes.measured - 1)).toBeLessThan(0.05);
    expect(Math.abs(seconds.predicted / seconds.measured - 1)).toBeLessThan(0.25);
  }
});

test("a trial on this machine: what it takes lies near what the layers say", async () => {
  const options = { encoder: "resnet18", optimizer: "lars" as const, imageSize: 64, dim: 32, mlpDim: 128, device: "cpu", threads: 1 };
  const trial = await runTrial({ options, batches: [16, 32], repeats: 2 });
  const network = costOf({ ...heads, ...options });
  const setting: MemorySetting = {
    batch: 32, chunk: null, imageSize: [64, 64], precision: "fp32", optimizer: "lars", onGpu: false, augment: "cpu", saveInBackground: false,
  };
  const factor = allocatorFactor(network, setting, trial);
  expect(factor).toBeGreaterThan(0.7);
  expect(factor).toBeLessThan(1.8);
  expect(trialBytes(network, setting, 32)).toBeGreaterThan(trialBytes(network, setting, 16));
}, 60_000);

test("a trial that fails says why", async () => {
  const failing = runTrial({ options: { encoder: "resnet18", imageSize: 0 }, batches: [2], repeats: 1 });
  await expect(failing).rejects.toThrow(TrialError);
  await expect(failing).rejects.toThrow(/imageSize is 0/);
}, 30_000);

describe("memory", () => {
  const setting: MemorySetting = {
    batch: 4096, chunk: null, imageSize: [224, 224], precision: "fp32", optimizer: "adamw", onGpu: false, augment: "cpu", saveInBackground: false,
  };
  const bytesWith = (batch: number, chunk: number | null): number => planMemory(costFor("vit_small"), { ...setting, batch, chunk }).training.bytes;

  test("4,096 images of ViT-S fit into 12 GB in chunks, and not at once", () => {
    const choice = chooseChunk({ batchSize: 4096, asked: null, usableBytes: 12e9, bytesWith, batchNorms: 0 });
    expect(bytesWith(4096, null)).toBeGreaterThan(400e9);
    expect(choice).toMatchObject({ fits: false, exact: true, smallerBatch: null });
    expect(choice.bytes).toBeLessThanOrEqual(12e9);
    expect(bytesWith(4096, 2 * choice.microBatch!)).toBeGreaterThan(12e9);
  });

  test("parts add up, and a batch that nothing makes fit leads to a smaller one", () => {
    const { parts, bytes } = planMemory(costFor("vit_small"), setting).training;
    expect(parts.reduce((sum, part) => sum + part.bytes, 0)).toBe(bytes);
    const choice = chooseChunk({ batchSize: 4096, asked: null, usableBytes: 2e9, bytesWith, batchNorms: 4 });
    expect(choice).toMatchObject({ fits: false, microBatch: null, exact: false });
    expect(bytesWith(choice.smallerBatch!, 2)).toBeLessThanOrEqual(2e9);
    expect(chooseChunk({ batchSize: 4096, asked: null, usableBytes: 1e8, bytesWith, batchNorms: 0 }).smallerBatch).toBeNull();
    expect(chooseChunk({ batchSize: 8, asked: null, usableBytes: 1e11, bytesWith, batchNorms: 0 })).toMatchObject({ fits: true, microBatch: null });
  });
});

describe("time", () => {
  test("a line through two batches, and no nonsense from a clock's noise", () => {
    expect(fitStepTime([{ batch: 2, seconds: [9, 3] }, { batch: 4, seconds: [5] }])).toEqual({ fixed: 1, perImage: 1 });
    expect(fitStepTime([{ batch: 2, seconds: [4] }, { batch: 4, seconds: [4] }])).toEqual({ fixed: 2, perImage: 0.5 });
    expect(fitStepTime([{ batch: 4, seconds: [8] }])).toEqual({ fixed: 0, perImage: 2 });
    expect(computeSeconds({ fixed: 1, perImage: 1 }, 8, 4)).toBe(11);
  });

  test("a GPU waits for the slower of the two, a CPU does both", () => {
    const given = { batch: 100, compute: 1, imagesPerCoreSecond: 10, threads: 4, cores: 16 };
    expect(paceOf({ ...given, onGpu: true })).toEqual({ stepSeconds: 2.5, computeSeconds: 1, loadSeconds: 2.5, bottleneck: "loading", threadsNeeded: 10 });
    expect(paceOf({ ...given, onGpu: false })).toMatchObject({ stepSeconds: 1.625, threadsNeeded: null });
  });
});

test("collectives: none for one rank; sums grow with the logarithm, gathers with the ranks", () => {
  const gpu = gpuTypes.h200;
  expect(allReduceSeconds(1e6, { ranks: 1, gpu })).toBe(0);
  const [few, many] = [16, 1024].map((ranks) => [allReduceSeconds(4, { ranks, gpu }), allGatherSeconds(4, { ranks, gpu })] as const) as [[number, number], [number, number]];
  expect(many[0] / few[0]).toBeLessThan(4);
  expect(many[1] / few[1]).toBeGreaterThan(20);
});

test("saving at Young's interval loses least", () => {
  const failures = { meanSecondsBetween: 10_000, saveSeconds: 2, restartSeconds: 100 };
  const { seconds, lostShare: least } = checkpointInterval(failures);
  expect(seconds).toBe(200);
  expect(least).toBeCloseTo(0.03, 12);
  for (const other of [100, 400]) expect(lostShare(failures, other)).toBeGreaterThan(least);
});

test("checkpoints that stay", () => {
  const given = { epochs: 10, saveEveryEpochs: 3, keep: null, keepEvery: null };
  expect(keptCheckpoints(given)).toBe(4); // after 3, 6, 9 and 10
  expect(keptCheckpoints({ ...given, keep: 2 })).toBe(2);
  expect(keptCheckpoints({ ...given, keepEvery: 6 })).toBe(2); // 6, and the newest
});

test("what the driver tells of a GPU", () => {
  expect(parseGpuFacts("NVIDIA H200, 143771, 143000\n")).toEqual({ name: "NVIDIA H200", memoryBytes: 143771 * 2 ** 20, availableBytes: 143000 * 2 ** 20 });
  expect(parseGpuFacts("No devices were found\n")).toBeNull();
});
