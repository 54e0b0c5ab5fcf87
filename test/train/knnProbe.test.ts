import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { LabelledDataError, type ImageSource } from "../../lib/data/index.js";
import { ResNet } from "../../lib/models/index.js";
import { readRunLog, type KnnEntry } from "../../lib/report/index.js";
import * as torch from "../../lib/torch/index.js";
import { evaluateKnn } from "../../lib/train/knnEvaluation.js";
import { OptionError } from "../../lib/train/options.js";
import type { PretrainOptions } from "../../lib/train/pretrainOptions.js";
import { memorySource } from "../data/pixels.js";
import { writeDigits } from "../support/digits.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { runTiny, stateBytes } from "./tinyRun.js";

expectNoTensorsLeft();
const folder = temporaryFolder("knn-probe");
const digits = join(folder, "digits");
beforeAll(() => writeDigits(digits, { count: 400, pixels: 16 }));

const labelled: ImageSource = { ...memorySource(25), classes: ["even", "odd", "third"], label: (index) => index % 3 };
const resnet = (numClasses: number): ResNet => new ResNet({ block: "basic", layers: [1, 1, 1, 1], width: 4, numClasses });

test.each<[string, Partial<PretrainOptions>]>([
  ["a ViT", {}],
  ["a ResNet, whose BatchNorm keeps statistics", { encoder: resnet, arch: "resnet_tiny", imageSize: 32 }],
])("%s: every byte is that of a run without", async (name, changes) => {
  const runs: { weights: Map<string, Uint8Array>; files: Uint8Array[]; random: Uint8Array }[] = [];
  for (const knnEvery of [undefined, 1]) {
    const out = join(folder, `${name.slice(0, 8)} ${knnEvery}`);
    let weights = new Map<string, Uint8Array>();
    await runTiny({ ...changes, data: labelled, epochs: 3, out, knnEvery }, {}, (moco) => {
      weights = stateBytes(moco);
      expect(moco.training && moco.baseEncoder.training && moco.baseEncoder.head.training).toBe(true);
    });
    const files = readdirSync(out).filter((each) => each.startsWith("checkpoint_")).sort();
    expect(files).toHaveLength(3);
    const random = torch.scope(() => torch.getRngState().bytes());
    runs.push({ weights, random, files: files.map((each) => readFileSync(join(out, each))) });
    expect(readRunLog(join(out, "log.jsonl")).knn).toHaveLength(knnEvery === undefined ? 0 : 3);
  }
  expect(runs[1]).toEqual(runs[0]);
});

test("judges after every so many epochs and after the last, as moco knn judges the checkpoints", async () => {
  const out = join(folder, "digits-run");
  const heard: KnnEntry[] = [];
  await runTiny({ data: digits, batchSize: 160, epochs: 3, out, knnEvery: 2 }, { onKnn: (entry) => void heard.push(entry) });
  const { knn } = readRunLog(join(out, "log.jsonl"));
  expect(knn).toEqual(heard);
  expect(knn.map(({ epoch }) => epoch)).toEqual([1, 2]);
  for (const { epoch, ...entry } of knn) {
    const { scores, gallery, queries } = await evaluateKnn({ data: digits, pretrained: join(out, `checkpoint_000${epoch}.pth.tar`) });
    expect(entry).toMatchObject({ ...scores[0], gallery, queries, leaveOneOut: false });
    expect(entry).toMatchObject({ k: 20, gallery: 320, queries: 80 });
    expect(entry.acc5).toBeGreaterThan(entry.acc1);
  }
});

test("other, labelled images judge a training without labels, a fixed number of them", async () => {
  const heard: KnnEntry[] = [];
  const knnData = join(digits, "train");
  for (let i = 0; i < 2; i++) {
    await runTiny({ knnEvery: 1, knnData, knnImages: 60, epochs: 1, warmupEpochs: 0 }, { onKnn: ({ seconds: _, ...entry }) => void heard.push(entry as KnnEntry) });
  }
  expect(heard[0]).toMatchObject({ epoch: 0, gallery: 60, queries: 60, leaveOneOut: true });
  expect(heard[1]).toEqual(heard[0]);
});

test("what fails in judging is warned of and ends no training", async () => {
  const broken = join(folder, "broken");
  for (const name of ["a", "b"]) mkdirSync(join(broken, name), { recursive: true });
  for (let i = 0; i < 30; i++) writeFileSync(join(broken, i % 2 === 0 ? "a" : "b", `${i}.png`), "no image");
  const warnings: string[] = [];
  const { result } = await runTiny({ knnEvery: 1, knnData: broken }, { onWarning: (message) => void warnings.push(message) });
  expect([result.reason, result.steps]).toEqual(["finished", 6]);
  expect(warnings).toEqual([1, 2].map((epoch) => expect.stringMatching(new RegExp(`^no kNN after epoch ${epoch}: none of the images can be read`))));
});

test("a signal ends the judging too", async () => {
  const controller = new AbortController();
  const warnings: string[] = [];
  const hooks = {
    signal: controller.signal, onCheckpoint: () => controller.abort(new Error("enough")), onWarning: (message: string) => void warnings.push(message),
  };
  const { result, steps } = await runTiny({ data: labelled, knnEvery: 1, out: join(folder, "stopped"), saveInBackground: false }, hooks);
  expect([result.reason, steps.length, warnings]).toEqual(["interrupted", 6, []]);
  expect(readRunLog(join(folder, "stopped", "log.jsonl")).knn).toEqual([]);
});

describe("what cannot judge is told before training begins", () => {
  test.each<[string, Partial<PretrainOptions>, new (...args: never[]) => Error, RegExp]>([
    ["images without classes", { knnEvery: 1 }, LabelledDataError, /training's images have no classes; or name other, labelled images.*--knn-data/],
    ["a folder without classes", { knnEvery: 1, knnData: "digits/train/3" }, LabelledDataError, /have no classes.*--knn-data DIR/],
    ["fewer images than vote", { knnEvery: 1, knnImages: 20, knnData: "digits/train" }, OptionError, /k is 20, and the gallery has 20 images, of which each leaves itself out/],
    ["images to judge by and no time to do it", { knnData: "digits" }, OptionError, /knnData is given without knnEvery/],
    ["no epochs", { knnEvery: 0 }, OptionError, /knnEvery is 0/],
  ])("%s", async (_, { knnData, ...changes }, kind, message) => {
    const failure = runTiny({ ...changes, knnData: knnData && join(folder, knnData) });
    await expect(failure).rejects.toThrow(kind);
    await expect(failure).rejects.toThrow(message);
  });
});
