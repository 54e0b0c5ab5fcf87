import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { disposeTensors, readCheckpoint } from "../../lib/checkpoint/index.js";
import { openLabelledSplits, type ImageStream, type LabelledSplits } from "../../lib/data/index.js";
import type { Encoder } from "../../lib/models/index.js";
import { probeLearningRateAt } from "../../lib/optim/index.js";
import { readRunLog } from "../../lib/report/index.js";
import * as torch from "../../lib/torch/index.js";
import { evaluateClassifier } from "../../lib/train/evaluateClassifier.js";
import { FeatureError } from "../../lib/train/features.js";
import { FrozenWeightsError, requireFrozen } from "../../lib/train/linearProbe/frozenWeights.js";
import { InitialWeightsError, readEncoder } from "../../lib/train/initialWeights.js";
import { OptionError } from "../../lib/train/options.js";
import { writeDigits } from "../support/digits.js";
import { fixturePath } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { resnet, runProbe, tinyProbe, vit, writeEncoder, type ProbeRun } from "./probeRun.js";

expectNoTensorsLeft();
const root = temporaryFolder("linear");
const digits = join(root, "digits");
let pretrained: string;
let counter = 0;
const folder = (): string => join(root, `run-${counter++}`);
/** Of the 400 digits 320 are to train on: ten steps of 32. */
const stepsPerEpoch = 10;
let whole: string;
let reference: ProbeRun;

beforeAll(async () => {
  await writeDigits(digits, { count: 400, pixels: 16 });
  pretrained = await writeEncoder(root, vit);
  whole = folder();
  reference = await runProbe({ data: digits, pretrained, out: whole });
}, 60_000);

const checkpointOf = (out: string, name = "checkpoint.pth.tar"): Buffer => readFileSync(join(out, name));
const stateOf = (model: Encoder): [string, Uint8Array][] => [...model.stateDict()].map(([key, tensor]) => [key, tensor.bytes()]);

describe("a linear probe of real digits", () => {
  test("learns, tells how well after each epoch, and leaves upstream's two files and a log", async () => {
    const { result, steps, evaluations } = reference;
    expect(result).toMatchObject({ reason: "finished", steps: 2 * stepsPerEpoch, badImages: [], checkpoint: join(whole, "checkpoint.pth.tar") });
    expect(result.classes).toEqual(["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    expect(readdirSync(whole).sort()).toEqual(["checkpoint.pth.tar", "log.jsonl", "model_best.pth.tar"]);
    expect(steps.map(({ lr }) => lr)).toEqual([0, 1].flatMap((epoch) => Array(stepsPerEpoch).fill(probeLearningRateAt(epoch, { lr: 0.125, epochs: 2 }))));
    expect(evaluations).toHaveLength(2);
    // Random features of tiny digits: well above the tenth of guessing.
    expect(result.evaluation!.acc1).toBeGreaterThan(20);
    expect(result.evaluation!.acc5).toBeGreaterThan(result.evaluation!.acc1);
    expect(result.evaluation!.images).toBe(80);
    expect(steps.at(-1)!.loss).toBeLessThan(steps[0]!.loss);
    const log = readRunLog(join(whole, "log.jsonl"));
    expect(log.steps.map(({ step, acc1 }) => [step, acc1])).toEqual(steps.map(({ step, acc1 }) => [step, acc1]));
    expect(log.evaluations).toEqual(evaluations);
    expect(log.runs[0]).toMatchObject({ images: 320, epochs: 2, stepsPerEpoch, options: { data: digits, lr: 0.125, seed: 5, numClasses: 10 } });
    const best = evaluations.reduce((a, b) => (b.acc1 > a.acc1 ? b : a));
    expect(result.bestAcc1).toBe(best.acc1);
    const saved = await readCheckpoint<Record<string, torch.Tensor>>(join(whole, "model_best.pth.tar"));
    expect([saved.epoch, saved.best_acc1!.item()]).toEqual([best.epoch + 1, Math.fround(best.acc1)]);
    disposeTensors(saved);
  });

  test("does not touch the encoder, in evaluation mode", async () => {
    for (const build of [vit, resnet]) {
      const path = await writeEncoder(root, build, { name: `${build.name}.pth.tar` });
      const size = build === vit ? {} : { imageSize: 32 };
      await runProbe({ data: digits, pretrained: path, epochs: 1, ...size }, {}, async (model) => {
        await requireFrozen(model, path);
        expect([model.training, model.parameters().filter(({ requiresGrad }) => requiresGrad).length]).toEqual([false, 2]);
        const buffers = model.namedBuffers().filter(([key]) => key.endsWith("num_batches_tracked"));
        for (const [, count] of buffers) expect(count.item()).toBe(0);
        torch.noGrad(() => model.namedParameters().at(0)![1].add_(1e-3));
        await expect(requireFrozen(model, path)).rejects.toThrow(FrozenWeightsError);
      });
    }
  });

  test("the same seed gives the same bytes, whatever the threads; another does not", async () => {
    const [again, other] = [folder(), folder()];
    await runProbe({ data: digits, pretrained, out: again, workers: 2, saveInBackground: false });
    expect(checkpointOf(again).equals(checkpointOf(whole))).toBe(true);
    expect(checkpointOf(again, "model_best.pth.tar").equals(checkpointOf(whole, "model_best.pth.tar"))).toBe(true);
    await runProbe({ data: digits, pretrained, out: other, seed: 6 });
    expect(checkpointOf(other).equals(checkpointOf(whole))).toBe(false);
  });

  test("of shards and streams, by their own labels", async () => {
    const { train, val, classes } = await openLabelledSplits(digits);
    const streamed = (source: typeof train): ImageStream => ({
      length: source.length, classes,
      async *stream() {
        if ("stream" in source) throw new Error("a folder is no stream");
        // Shards are shuffled when they are made; these are 37 apart.
        for (let i = 0; i < source.length; i++) {
          const id = (37 * i) % source.length;
          yield { id, name: `image ${id}`, label: source.label!(id), image: source.image(id) };
        }
      },
    });
    const data: LabelledSplits = { classes, train: streamed(train), val: streamed(val!) };
    const { result } = await runProbe({ data, pretrained, epochs: 3, cacheFeatures: true });
    expect([result.steps, result.evaluation!.images]).toEqual([3 * stepsPerEpoch, 80]);
    expect(result.evaluation!.acc1).toBeGreaterThan(20);
    expect((await runProbe({ data, pretrained, epochs: 1 })).steps).toHaveLength(stepsPerEpoch);
    const judged = await runProbe({ data, resume: whole, evaluate: true });
    expect(judged.result.evaluation!.acc1).toBe(reference.result.evaluation!.acc1);
  });
});

describe("a run that was stopped and resumed ends with the same bytes", () => {
  test.each([[[1]], [[stepsPerEpoch - 1, 1]], [[stepsPerEpoch]], [[stepsPerEpoch + 3, 5]]])("stopped after %j steps", async (stops) => {
    const out = folder();
    let resume: string | undefined;
    for (const stopAfter of stops) {
      const { result } = await runProbe({ data: digits, pretrained, out, resume, stopAfter, seed: resume === undefined ? 5 : undefined });
      expect([result.reason, result.steps]).toEqual(["stop-after", stopAfter]);
      resume = out;
    }
    const { result } = await runProbe({ data: digits, out, resume, seed: undefined, workers: 2 }); // the encoder comes from the checkpoint too
    expect(result.reason).toBe("finished");
    for (const name of ["checkpoint.pth.tar", "model_best.pth.tar"]) expect(checkpointOf(out, name).equals(checkpointOf(whole, name))).toBe(true);
    const log = readRunLog(join(out, "log.jsonl"));
    expect(log.steps.map(({ loss }) => loss)).toEqual(reference.steps.map(({ loss }) => loss));
    expect(log.evaluations).toEqual(reference.evaluations);
  });

  test.each([["while it trains", "onStep"], ["while it looks at validation images", "onFeatures"]] as const)("by a signal %s", async (_, when) => {
    const out = folder();
    const stop = new AbortController();
    const { result } = await runProbe({ data: digits, pretrained, out }, {
      signal: stop.signal, [when]: (told: unknown) => (when === "onFeatures" || (told as { step: number }).step === 4) && stop.abort("SIGINT"),
    });
    expect([result.reason, result.steps, result.evaluation]).toEqual(["interrupted", when === "onStep" ? 5 : stepsPerEpoch, null]);
    await runProbe({ data: digits, pretrained, out, resume: out, seed: undefined });
    expect(checkpointOf(out).equals(checkpointOf(whole))).toBe(true);
  });

  test("by a signal while it computes features once: nothing is left, and nothing was lost", async () => {
    const out = folder();
    const stop = new AbortController();
    const { result } = await runProbe({ data: digits, pretrained, out, cacheFeatures: true, featureMemory: 0 }, {
      signal: stop.signal, onFeatures: () => stop.abort("SIGINT"),
    });
    expect([result.reason, result.steps, result.checkpoint, readdirSync(out)]).toEqual(["interrupted", 0, null, []]);
    await runProbe({ data: digits, pretrained, out, cacheFeatures: true, featureMemory: 0 });
  });

  test("with images that cannot be read", async () => {
    const torn = join(root, "torn");
    cpSync(digits, torn, { recursive: true });
    const [first, second] = readdirSync(join(torn, "train", "3")) as [string, string];
    for (const name of [first, second]) writeFileSync(join(torn, "train", "3", name), "torn");
    writeFileSync(join(torn, "val", "4", readdirSync(join(torn, "val", "4"))[0]!), "torn");
    const [one, two] = [folder(), folder()];
    const bad: string[] = [];
    const { result } = await runProbe({ data: torn, pretrained, out: one, maxBad: 0.05 }, { onBadImage: ({ name }) => void bad.push(name) });
    expect([bad.length, new Set(bad).size, result.badImages.length, result.evaluation!.images]).toEqual([3, 3, 3, 79]);
    await runProbe({ data: torn, pretrained, out: two, maxBad: 0.05, stopAfter: 4 });
    await runProbe({ data: torn, pretrained, out: two, maxBad: 0.05, resume: two });
    expect(checkpointOf(two).equals(checkpointOf(one))).toBe(true);
    await expect(runProbe({ data: torn, pretrained, maxBad: 0.001 })).rejects.toThrow(/could not be read, more than the limit of 0\.1 %/);
  });

  test("of a sweep, on features that are kept in a file", async () => {
    const options = { data: digits, pretrained, sweep: [0.5, 8, 1e37], cacheFeatures: true, featureMemory: 0 };
    const [one, two] = [folder(), folder()];
    const done = await runProbe({ ...options, out: one });
    await runProbe({ ...options, out: two, stopAfter: 13 });
    const file = statSync(join(two, "features-train.safetensors"));
    const resumed = await runProbe({ ...options, out: two, resume: two });
    expect(statSync(join(two, "features-train.safetensors"))).toEqual({ ...file, atimeMs: expect.anything(), atime: expect.anything() });
    for (const name of ["checkpoint.pth.tar", "model_best.pth.tar"]) expect(checkpointOf(two, name).equals(checkpointOf(one, name))).toBe(true);
    expect(resumed.result.heads).toEqual(done.result.heads);
    expect(done.result.heads.map(({ diverged }) => diverged)).toEqual([false, false, true]);
    await expect(runProbe({ ...options, sweep: [0.5, 9], out: folder(), resume: two })).rejects.toThrow(/has classifiers of the learning rates/);
    const single = await runProbe({ data: digits, out: folder(), resume: two, epochs: 3, cacheFeatures: true });
    expect(single.warnings).toContainEqual(expect.stringMatching(/of a sweep of 3 learning rates; only its best classifier goes on/));
  });
});

describe("features that are computed once", () => {
  test("give the same classifier in memory and in a file", async () => {
    const [memory, file] = [folder(), folder()];
    const options = { data: digits, pretrained, cacheFeatures: true };
    const told: [string, number][] = [];
    const { result } = await runProbe({ ...options, out: memory }, { onFeatures: (done, _, part) => void told.push([part, done]) });
    await runProbe({ ...options, out: file, featureMemory: 0 });
    expect(checkpointOf(file).equals(checkpointOf(memory))).toBe(true);
    expect(told.filter(([part]) => part === "train").at(-1)).toEqual(["train", 320]);
    expect(told.filter(([part]) => part === "val")).toEqual([["val", 64], ["val", 80]]); // once for both epochs
    // Without crops there is more to see of each digit.
    expect(result.evaluation!.acc1).toBeGreaterThan(reference.result.evaluation!.acc1);
  });

  test("of random crops: each epoch has the next", async () => {
    const options = { data: digits, pretrained, epochs: 4, baseLr: 0.001 };
    const { steps } = await runProbe({ ...options, cacheViews: 2 });
    const losses = (epoch: number): number[] => steps.filter((step) => step.epoch === epoch).map(({ loss }) => loss);
    expect(new Set([0, 1, 2, 3].map((epoch) => losses(epoch)[0])).size).toBe(4);
    // At a rate that hardly moves the classifier, an epoch's mean loss tells which features it saw: those of two epochs before.
    const mean = (epoch: number): number => losses(epoch).reduce((sum, loss) => sum + loss, 0) / stepsPerEpoch;
    expect(Math.abs(mean(2) - mean(0))).toBeLessThan(Math.abs(mean(1) - mean(0)) + 2e-3);
    const upstream = await runProbe({ ...options, epochs: 1 });
    expect(Math.abs(upstream.steps[0]!.loss - steps[0]!.loss)).toBeLessThan(0.1);
  });

  test("many learning rates at once are each alone, with upstream's crops too", async () => {
    const rates = [0.5, 8];
    const out = folder();
    const { result } = await runProbe({ data: digits, pretrained, sweep: rates, out });
    for (const [k, baseLr] of rates.entries()) {
      const alone = (await runProbe({ data: digits, pretrained, baseLr })).result;
      expect(result.heads[k]).toMatchObject({ lr: baseLr / 8, acc1: alone.heads[0]!.acc1, loss: expect.closeTo(alone.heads[0]!.loss!, 3) });
    }
    const best = Math.max(...result.heads.map(({ bestAcc1 }) => bestAcc1));
    expect(result.bestAcc1).toBe(best);
    const found = await runProbe({ data: digits, resume: join(out, "model_best.pth.tar"), evaluate: true });
    expect(found.result.evaluation!.acc1).toBe(best);
  });
});

describe("evaluation alone", () => {
  test("gives the figures of the checkpoint's epoch, by the whole network", async () => {
    const { result } = await runProbe({ data: digits, resume: whole, evaluate: true });
    expect(result).toMatchObject({ reason: "finished", steps: 0, checkpoint: null });
    expect(result.evaluation).toMatchObject({
      acc1: reference.result.evaluation!.acc1, acc5: reference.result.evaluation!.acc5, loss: expect.closeTo(reference.result.evaluation!.loss, 4),
    });
  });

  test("the result's model is the classifier, and works by itself", async () => {
    const { val } = await openLabelledSplits(digits);
    await runProbe({ data: digits, resume: whole, evaluate: true }, {}, async (model) => {
      const found = await evaluateClassifier(model, val!, { numClasses: 10, imageSize: 16 });
      expect(found!.acc1).toBe(reference.result.evaluation!.acc1);
    });
  });

  test("of a new classifier is warned of", async () => {
    const { warnings } = await runProbe({ data: digits, pretrained, evaluate: true });
    expect(warnings).toContainEqual(expect.stringMatching(/the classifier is new and has learned nothing.*--resume/));
  });

  test("of upstream's checkpoint with more outputs than there are classes", async () => {
    const data = join(root, "three");
    for (const part of ["train", "val"]) for (const digit of ["0", "1", "2"]) cpSync(join(digits, part, digit), join(data, part, digit), { recursive: true });
    const resume = fixturePath("checkpoints/lincls_vit_zip.pth.tar");
    await expect(runProbe({ data, resume, numHeads: 4, evaluate: true })).rejects.toThrow(/has 10 classes, and the one for these images 3.*--num-classes 10/);
    const { result } = await runProbe({ data, resume, numHeads: 4, evaluate: true, numClasses: 10 });
    expect(result.evaluation!.acc5).toBeGreaterThanOrEqual(result.evaluation!.acc1);
  });
});

describe("upstream's checkpoint", () => {
  test("goes on here, from its epoch, its optimiser and its best accuracy", async () => {
    const out = folder();
    const resume = fixturePath("checkpoints/lincls_vit_zip.pth.tar");
    const { evaluations, steps, warnings } = await runProbe({ data: digits, resume, numHeads: 4, epochs: 5, out });
    expect([steps[0]!.epoch, steps.length]).toEqual([3, 2 * stepsPerEpoch]);
    expect(evaluations.every(({ best }) => !best)).toBe(true); // it says that it had 75 %
    expect(warnings).toContainEqual(expect.stringMatching(/^begins anew: the random numbers/));
    const saved = await readCheckpoint<Record<string, torch.Tensor>>(join(out, "checkpoint.pth.tar"));
    expect([saved.epoch, saved.best_acc1!.item()]).toEqual([5, 75]);
    disposeTensors(saved);
    expect(readdirSync(out)).not.toContain("model_best.pth.tar");
  });
});

test("the start epoch counts without a pretrained encoder only, as upstream", async () => {
  const begun = await runProbe({ data: digits, pretrained, epochs: 2, startEpoch: 1, stopAfter: 1 });
  expect([begun.steps[0]!.epoch, begun.warnings]).toEqual([0, expect.arrayContaining([expect.stringMatching(/begins with epoch 0/)])]);
  const random = await runProbe({ data: digits, arch: "resnet18", imageSize: 32, epochs: 2, startEpoch: 1, stopAfter: 1 });
  expect(random.steps[0]!.epoch).toBe(1);
});

test("what it leaves is an encoder for others", async () => {
  using read = await readEncoder(whole);
  expect([read.file, read.recognised.kind, read.spec.numHeads, read.recognised.numClasses]).toEqual([
    join(whole, "checkpoint.pth.tar"), "linear-probe", 3, 10,
  ]);
});

test("any checkpoint that convert reads is a beginning", async () => {
  const run = folder();
  mkdirSync(run);
  cpSync(pretrained, join(run, "checkpoint_0000.pth.tar"));
  const { steps } = await runProbe({ data: digits, pretrained: run, epochs: 1 }); // a run's folder
  expect(steps.map(({ loss }) => loss)).toEqual(reference.steps.slice(0, stepsPerEpoch).map(({ loss }) => loss));
  await runProbe({ data: digits, pretrained: fixturePath("convert/deit_vit.pth"), numHeads: 4, epochs: 1 });
  const random = await runProbe({ data: digits, arch: "resnet18", imageSize: 32, epochs: 1, batchSize: 320, stopAfter: 1 });
  expect(random.warnings).toContainEqual(expect.stringMatching(/the resnet18 has random weights: give a checkpoint with --pretrained/));
}, 60_000);

describe("what cannot go well is refused with what to do", () => {
  const probe = async (options: object): Promise<unknown> => runProbe({ data: digits, pretrained, epochs: 1, ...options });

  test("an encoder of another architecture, or for images of another size", async () => {
    await expect(probe({ arch: "vit_small" })).rejects.toThrow(/is of a ViT of width 24 and depth 1, and --arch asks for vit_small; leave --arch out/);
    await expect(probe({ arch: "vit_small" })).rejects.toThrow(InitialWeightsError);
    await expect(probe({ imageSize: 32 })).rejects.toThrow(/imageSize is 32, and the ViT takes 16 x 16 pixels/);
    await expect(probe({ arch: "vit_tiny" })).rejects.toThrow(/Unknown architecture "vit_tiny"/);
  });

  test("a checkpoint of pre-training in the place of one to resume, and the encoder of another run", async () => {
    await expect(probe({ resume: pretrained })).rejects.toThrow(/is of pre-training.*--pretrained/);
    const other = await writeEncoder(root, vit, { name: "other.pth.tar", seed: 9 });
    await expect(probe({ resume: whole, pretrained: other, epochs: 3, out: folder() })).rejects.toThrow(/cls_token is not as in .*other.pth.tar/);
  });

  test("images without a part to judge by, with other classes in it, or without labels", async () => {
    const bare = join(root, "bare");
    cpSync(join(digits, "train"), join(bare, "train"), { recursive: true });
    await expect(probe({ data: bare })).rejects.toThrow(/bare has no images to judge by; put them into a folder val\/.*--val/);
    const fewer = join(root, "fewer");
    cpSync(digits, fewer, { recursive: true });
    rmSync(join(fewer, "val", "7"), { recursive: true });
    await expect(probe({ data: fewer })).rejects.toThrow(/has no images of 7; both parts need the same classes/);
    await expect(probe({ data: join(digits, "train", "1") })).rejects.toThrow(/have no classes/);
    await expect(probe({ data: bare, val: join(digits, "val"), stopAfter: 1 })).resolves.toBeDefined();
  });

  test("another number of classes than the checkpoint's", async () => {
    const fewer = join(root, "nine");
    cpSync(digits, fewer, { recursive: true });
    for (const part of ["train", "val"]) rmSync(join(fewer, part, "9"), { recursive: true });
    await expect(probe({ data: fewer, resume: whole, pretrained: undefined })).rejects.toThrow(/has 10 classes, and the one for these images 9/);
    await expect(probe({ numClasses: 5 })).rejects.toThrow(/has 10 classes, more than 5/);
  });

  test("features that are not finite", async () => {
    const broken = await writeEncoder(root, vit, { name: "nan.pth.tar", spoil: (encoder) => void torch.noGrad(() => encoder.parameters().at(-1)!.fill_(NaN)) });
    await expect(probe({ pretrained: broken })).rejects.toThrow(/the features of \d\/\d+\.png are not finite numbers/);
    await expect(probe({ pretrained: broken, cacheFeatures: true })).rejects.toThrow(FeatureError);
  });

  test("a folder with another run, and a rate that is too high", async () => {
    await expect(probe({ out: whole })).rejects.toThrow(/already holds a run \(checkpoint\.pth\.tar\)/);
    const out = folder();
    await expect(probe({ baseLr: 1e38, out })).rejects.toThrow(/The learning rate .* is too high; begin again with a lower --lr/);
    expect(readRunLog(join(out, "log.jsonl")).end).toMatchObject({ reason: "failed" });
  });

  test.each<[object, RegExp]>([
    [{ epochs: 0 }, /epochs is 0; give a whole number of at least 1/],
    [{ batchSize: 0.5 }, /batchSize is 0.5/],
    [{ baseLr: undefined, sweep: [] }, /sweep is \[\]; give one or more/],
    [{ baseLr: undefined, sweep: [1, 1] }, /sweep is \[1, 1\]; give one or more learning rates, each once/],
    [{ baseLr: 1, sweep: [1] }, /sweep gives the learning rates, and so does/],
    [{ momentum: 1 }, /momentum is 1/],
    [{ precision: "fp16" }, /precision fp16 needs a GPU/],
    [{ device: "cuda:7" }, /device is "cuda:7"/],
  ])("the option %j", async (options, message) => {
    const { linearProbe } = await import("../../lib/train/linear.js");
    const failure = await linearProbe({ ...tinyProbe, data: digits, pretrained, ...options } as never).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(OptionError);
    expect((failure as Error).message).toMatch(message);
  });
});

test("bfloat16 features train a float32 classifier", async () => {
  const { result } = await runProbe({ data: digits, pretrained, precision: "bf16", epochs: 1 }, {}, (model) => {
    expect(new Set(stateOf(model).map(([key]) => model.stateDict().get(key)!.dtype))).toEqual(new Set(["float32"]));
  });
  expect(result.evaluation!.acc1).toBeGreaterThan(20);
});
