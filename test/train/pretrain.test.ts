import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { TooFewImagesError, TooManyBadImagesError, TwoViewLoader } from "../../lib/data/index.js";
import { createMoCo } from "../../lib/moco/index.js";
import { UnknownArchitectureError } from "../../lib/models/index.js";
import { AdamW, learningRateAt, momentumAt } from "../../lib/optim/index.js";
import { readRunLog, type RunEntry } from "../../lib/report/index.js";
import * as torch from "../../lib/torch/index.js";
import { pretrain } from "../../lib/train/pretrain.js";
import { OptionError } from "../../lib/train/options.js";
import type { PretrainOptions } from "../../lib/train/pretrainOptions.js";
import { memorySource, withFolder } from "../data/pixels.js";
import { runTiny, stateBytes, tinyOptions, tinyStepsPerEpoch } from "./tinyRun.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

test("a run is upstream's loop: schedule, loss, backward, step", async () => {
  let trained = new Map<string, Uint8Array>();
  const { result, steps } = await runTiny({}, {}, (moco) => (trained = stateBytes(moco)));
  expect([result.reason, result.steps, result.checkpoint]).toEqual(["finished", 6, null]);
  expect(result.loss).toBe(steps.at(-1)!.loss);

  const { lr, epochs, warmupEpochs, weightDecay, batchSize, imageSize, seed } = tinyOptions;
  torch.manualSeed(seed);
  const { encoder, dim, mlpDim, temperature } = tinyOptions;
  using moco = createMoCo({ encoder, dim, mlpDim, temperature });
  using optimizer = new AdamW(moco.parameters(), { lr, weightDecay });
  await using loader = new TwoViewLoader(tinyOptions.data, { batchSize, imageSize, seed, threads: 1 });
  const losses: number[] = [];
  for (let epoch = 0; epoch < epochs; epoch++) {
    for await (using batch of loader.epoch(epoch)) {
      const at = epoch + batch.step / tinyStepsPerEpoch;
      optimizer.setLearningRate(learningRateAt(at, { lr, epochs, warmupEpochs }));
      torch.scope(() => {
        const loss = moco.forward(...batch.views, momentumAt(at, { momentum: 0.99, epochs }));
        losses.push(loss.item());
        optimizer.zeroGrad();
        loss.backward();
        optimizer.step();
      });
    }
  }
  optimizer.zeroGrad();
  expect(steps.map(({ loss }) => loss)).toEqual(losses);
  expect(trained).toEqual(stateBytes(moco));
});

test("augmentation on the training's device gives the same weights", async () => {
  const weights: Map<string, Uint8Array>[] = [];
  for (const augment of ["cpu", "gpu"] as const) await runTiny({ augment }, {}, (moco) => weights.push(stateBytes(moco)));
  expect(weights[1]).toEqual(weights[0]);
});

test("every step is reported with its place, its schedule and its times", async () => {
  const { steps } = await runTiny();
  expect(steps.map(({ step, epoch, stepInEpoch }) => [step, epoch, stepInEpoch])).toEqual([
    [0, 0, 0], [1, 0, 1], [2, 0, 2], [3, 1, 0], [4, 1, 1], [5, 1, 2],
  ]);
  expect(steps[0]).toMatchObject({ kind: "step", lr: 0, momentum: 0.99, scale: 1 });
  expect(steps[3]!.lr).toBe(1e-3);
  expect(steps[3]!.momentum).toBeCloseTo(0.995, 12);
  for (const { loss, gradientNorm, imagesPerSecond, dataWaitMs, stepMs } of steps) {
    expect(loss).toBeGreaterThan(0);
    expect(gradientNorm).toBeGreaterThan(0);
    expect(dataWaitMs).toBeGreaterThanOrEqual(0);
    expect(stepMs).toBeGreaterThanOrEqual(dataWaitMs);
    expect(imagesPerSecond).toBeCloseTo(4000 / stepMs, 6);
  }
});

test("live tensors are as many after every step, however many there are", async () => {
  const live: number[] = [];
  await runTiny({ epochs: 20 }, { onStep: () => void live.push(torch.memory().tensors) });
  // Batches that the loader has ready, or in the making, come and go: two views each. A tensor kept in every tenth step would show.
  const settled = live.slice(3);
  expect(Math.max(...settled) - Math.min(...settled)).toBeLessThanOrEqual(6);
});

test("the seed decides, the number of workers does not", async () => {
  const losses = async (changes: Partial<PretrainOptions>): Promise<number[]> =>
    (await runTiny({ epochs: 1, ...changes })).steps.map(({ loss }) => loss);
  const first = await losses({});
  expect(await losses({ workers: 2, cacheImages: true })).toEqual(first);
  expect(await losses({ seed: 8 })).not.toEqual(first);
});

test("what onStart hears, and the log's first line", async () => {
  await withFolder({}, async (folder) => {
    const heard: RunEntry[] = [];
    const out = join(folder, "runs", "first");
    await runTiny({ out, seed: undefined, epochs: 1, warmupEpochs: 0.5 }, {
      onStart: (run, moco) => {
        heard.push(run);
        expect(moco.baseEncoder.featureDim).toBe(16);
        moco.eval(); // a caller may evaluate the network here; training goes on in training mode
      },
    });
    const log = readRunLog(join(out, "log.jsonl"));
    expect(log.runs).toEqual(heard);
    const [run] = log.runs;
    expect(run).toMatchObject({ images: 13, epochs: 1, stepsPerEpoch: 3, firstStep: 0, resumedFrom: null, device: "cpu" });
    expect(run!.options).toMatchObject({ encoder: "vit_tiny", lr: 1e-3, temperature: 0.2, precision: "fp32", cropMin: 0.08, m: 0.99 });
    expect(Number.isSafeInteger(run!.options.seed)).toBe(true);
    expect(Object.keys(run!.versions).sort()).toEqual(["libtorch", "moco-v3", "node"]);
    expect(log.steps).toHaveLength(3);
    expect(log.checkpoints).toMatchObject([{ file: "checkpoint_0000.pth.tar", steps: 3 }]);
    expect(log.end).toMatchObject({ reason: "finished" });
  });
});

test("unreadable images are named, counted and left out; too many stop the run", async () => {
  const data = memorySource(13, [2, 9]);
  const named: string[] = [];
  await withFolder({}, async (folder) => {
    const { result, steps } = await runTiny({ data, out: folder, maxBad: 0.2 }, { onBadImage: ({ name }) => void named.push(name) });
    expect(steps).toHaveLength(6);
    expect(named.sort()).toEqual(["image 2", "image 9"]);
    expect(result.badImages.map(({ index }) => index).sort()).toEqual([2, 9]);
    expect(readRunLog(join(folder, "log.jsonl")).badImages.map(({ path, reason }) => `${path}: ${reason}`).sort()).toEqual([
      "image 2: broken on purpose", "image 9: broken on purpose",
    ]);
  });
  await withFolder({}, async (folder) => {
    await expect(runTiny({ data, out: folder, maxBad: 0.1 })).rejects.toThrow(TooManyBadImagesError);
    const { end } = readRunLog(join(folder, "log.jsonl"));
    expect(end).toMatchObject({ reason: "failed", message: expect.stringContaining("2 of 13 images") });
  });
});

test("bfloat16 trains; weights stay float32", async () => {
  const { steps } = await runTiny({ precision: "bf16" }, {}, (moco) => {
    expect(new Set(moco.parameters().map(({ dtype }) => dtype))).toEqual(new Set(["float32"]));
  });
  const exact = (await runTiny()).steps;
  // Three digits, magnified by BatchNorm over four images and by the temperature.
  expect(Math.abs(steps[0]!.loss / exact[0]!.loss - 1)).toBeLessThan(0.2);
  expect(steps[0]!.loss).not.toBe(exact[0]!.loss);
  expect(steps.map(({ loss }) => Number.isFinite(loss))).toEqual(steps.map(() => true));
});

test("LARS trains a ResNet by name", async () => {
  const { steps } = await runTiny({ encoder: "resnet18", arch: undefined, optimizer: "lars", imageSize: 32, epochs: 1, stopAfter: 2 });
  expect(steps.map(({ loss }) => Number.isFinite(loss))).toEqual([true, true]);
});

describe("what is wrong shows before a network is built", () => {
  let built = 0;
  const encoder = (): never => {
    built++;
    throw new Error("built");
  };
  test.each<[string, Partial<PretrainOptions>, new (...args: never[]) => Error, RegExp]>([
    ["too few images", { batchSize: 14 }, TooFewImagesError, /13 images.*14/],
    ["a missing folder", { data: "/nowhere/at/all" }, Error, /nowhere/],
    ["an unknown architecture", { encoder: "vit_smal" }, UnknownArchitectureError, /vit_small/],
    ["a batch of one", { batchSize: 1 }, OptionError, /batchSize is 1.*at least 2/],
    ["no epoch", { epochs: 0 }, OptionError, /epochs is 0/],
    ["a negative rate", { lr: -1 }, OptionError, /lr is -1/],
    ["a rate that is no number", { lr: NaN }, OptionError, /lr is NaN/],
    ["no temperature", { temperature: 0 }, OptionError, /temperature is 0.*above 0/],
    ["momentum above 1", { m: 1.5 }, OptionError, /m is 1.5.*at most 1/],
    ["LARS momentum 1", { momentum: 1 }, OptionError, /momentum is 1.*below 1/],
    ["one beta", { betas: [0.9] as unknown as [number, number] }, OptionError, /betas/],
    ["float16 on the CPU", { precision: "fp16" }, OptionError, /fp16 needs a GPU.*bf16/],
    ["a GPU that is not there", { device: "cuda:99" }, OptionError, /cuda:99.*moco doctor/],
    ["a device that is none", { device: "gpu" }, OptionError, /"gpu".*cpu, cuda/],
    ["patches of a ResNet", { encoder: "resnet18", patchSize: 8 }, OptionError, /no patches/],
    ["a checkpoint that is not there", { resume: "/nowhere/checkpoint.pth.tar" }, Error, /nowhere/],
  ])("%s", async (_, changes, kind, message) => {
    const failure = pretrain({ ...tinyOptions, encoder, ...changes });
    await expect(failure).rejects.toThrow(kind);
    await expect(failure).rejects.toThrow(message);
    expect(built).toBe(0);
  });

  test("a folder that holds another run", async () => {
    await withFolder({ "checkpoint_0003.pth.tar": "" }, async (folder) => {
      const failure = pretrain({ ...tinyOptions, encoder, out: folder });
      await expect(failure).rejects.toThrow(/already holds a run \(checkpoint_0003.pth.tar\).*--resume/);
      expect(readdirSync(folder)).toEqual(["checkpoint_0003.pth.tar"]);
    });
  });
});
