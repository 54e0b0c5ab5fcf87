/** Fine-tuning on scikit-learn's digits: it learns, goes on exactly, and refuses what cannot work. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { disposeTensors, readCheckpoint, writeCheckpoint } from "../../lib/checkpoint/index.js";
import { openLabelledSplits } from "../../lib/data/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import { readRunLog } from "../../lib/report/index.js";
import * as torch from "../../lib/torch/index.js";
import { evaluateFinetuned } from "../../lib/train/finetuning/evaluateFinetuned.js";
import type { FinetuneOptions } from "../../lib/train/finetuning/finetuneOptions.js";
import { NonFiniteError } from "../../lib/train/runs/finiteGuard.js";
import { readEncoder } from "../../lib/train/initialWeights.js";
import { fixturePath } from "../support/fixtures.js";
import { maxAbsolute, numbers } from "../support/digest.js";
import { runPython, testPython } from "../support/python.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { quickOptions, runFinetune, writeFinetuneFiles } from "./finetuneRun.js";

const root = temporaryFolder("finetune");
expectNoTensorsLeft();
let counter = 0;
const folder = (): string => join(root, `run-${counter++}`);
/** 200 digits to train on, four steps an epoch, and 50 to judge by. */
let few: { data: string; pretrained: string };
/** Two epochs with all that is random, and their folder. */
let all: FinetuneOptions;
let whole: string;

beforeAll(async () => {
  few = await writeFinetuneFiles(join(root, "few"), 250);
  all = { ...few, dropPath: 0.3, averageDecay: 0.9, layerDecay: 0.8, clipGrad: 1, mixupProb: 0.9, repeats: 2 };
  whole = folder();
  await runFinetune({ ...all, out: whole });
});

test("learns the digits", async () => {
  const { data, pretrained } = await writeFinetuneFiles(join(root, "many"), 375);
  const plain = { randAugment: "none", erasing: 0, colorJitter: 0, flip: 0, cropScale: [0.6, 1] as const };
  const { result, steps, evaluations } = await runFinetune({
    data, pretrained, epochs: 12, batchSize: 30, lr: 4e-3, mixup: 0, cutmix: 0, augmentation: plain, seed: 1, workers: 2,
  });
  expect([result.reason, result.steps, result.classes.length, evaluations.length]).toEqual(["finished", 120, 10, 12]);
  expect(result.bestAcc1).toBeGreaterThan(45); // chance is 10
  expect(result.bestAcc1).toBe(Math.max(...evaluations.map(({ acc1 }) => acc1)));
  expect(evaluations.at(-1)).toEqual(result.evaluation);
  expect(steps.at(-1)!.loss).toBeLessThan(0.8 * steps[0]!.loss);
  // The warm-up begins at 1e-6 and the cosine nears 1e-5.
  expect(steps[0]!.lr).toBe(1e-6);
  expect(Math.max(...steps.map(({ lr }) => lr))).toBeGreaterThan(3.9e-3);
  expect(steps.at(-1)!.lr).toBeLessThan(3e-5);
}, 120_000);

describe("a run that was stopped and resumed ends with the same bytes", () => {
  test.each([[[1]], [[4]], [[6]], [[2, 2, 1]], [[8]]])("stopped after %j steps", async (stops) => {
    const out = folder();
    let resume: string | undefined;
    for (const stopAfter of stops) {
      await runFinetune({ ...all, out, stopAfter, ...(resume === undefined ? {} : { resume, pretrained: undefined, seed: undefined }) });
      resume = out;
    }
    const { warnings } = await runFinetune({ ...all, out, resume, pretrained: undefined, seed: undefined, workers: 2 });
    const told = stops[0] === 8 ? ["nothing is left to do: 2 of 2 epochs are done; ask for more epochs"] : [];
    expect(warnings.filter((each) => !each.includes("attention heads"))).toEqual(told);
    for (const name of ["checkpoint.pth.tar", "model_best.pth.tar"]) {
      expect([name, readFileSync(join(out, name)).equals(readFileSync(join(whole, name)))]).toEqual([name, true]);
    }
    const losses = (at: string): number[] => readRunLog(join(at, "log.jsonl")).steps.map(({ loss }) => loss);
    expect(losses(out)).toEqual(losses(whole));
  });

  test("interrupted while it evaluates", async () => {
    const out = folder();
    const stop = new AbortController();
    const { result } = await runFinetune({ ...all, out }, { signal: stop.signal, onEvaluationBatch: () => stop.abort("SIGTERM") });
    expect([result.reason, result.steps, result.evaluation]).toEqual(["interrupted", 4, null]);
    const { evaluations } = await runFinetune({ ...all, out, resume: out, pretrained: undefined });
    expect(evaluations.map(({ epoch }) => epoch)).toEqual([0, 1]);
    expect(readFileSync(join(out, "checkpoint.pth.tar")).equals(readFileSync(join(whole, "checkpoint.pth.tar")))).toBe(true);
  });
});

describe("the checkpoint", () => {
  test("has DeiT's keys and ours, and is an encoder for everything else here", async () => {
    const value = await readCheckpoint<Record<string, never>>(join(whole, "checkpoint.pth.tar"));
    expect(Object.keys(value)).toEqual(["epoch", "arch", "model", "best_acc1", "optimizer", "moco_v3_run", "scaler", "model_ema"]);
    expect([...(value.model as Map<string, unknown>).keys()].slice(-2)).toEqual(["head.weight", "head.bias"]);
    expect(value.moco_v3_run).toMatchObject({ epoch: 2, step: 0, num_heads: 4, classes: [..."0123456789"] });
    disposeTensors(value);
    using read = await readEncoder(whole);
    expect([read.recognised.kind, read.spec.numHeads, read.recognised.numClasses]).toEqual(["deit", 4, 10]);
    expect(existsSync(join(whole, "log.jsonl"))).toBe(true);
  });

  test("is evaluated as it was in training, and at another image size", async () => {
    const { evaluations } = readRunLog(join(whole, "log.jsonl"));
    const { acc1, acc5, loss, average } = evaluations.at(-1)!;
    const found = await evaluateFinetuned({ ...quickOptions, data: few.data, resume: whole, numHeads: undefined });
    expect(found).toMatchObject({ acc1, acc5, loss, average, images: 50, epochs: 2, bad: [] });
    const larger = await evaluateFinetuned({ ...quickOptions, data: few.data, resume: whole, imageSize: 32 });
    expect(larger!.loss).not.toBe(loss);
    expect(Math.abs(larger!.loss / loss - 1)).toBeLessThan(0.2);
  });

  (testPython === null ? test.skip : test)("loads into timm's ViT and torch.optim.AdamW, and gives the same outputs", async () => {
    const path = join(whole, "checkpoint.pth.tar");
    const found = runPython<{ logits: number[]; average: number[]; groups: number[][] }>(`
import json, sys, torch
from timm.models.vision_transformer import VisionTransformer
c = torch.load(sys.argv[1], weights_only=True)
images = (torch.arange(2 * 3 * 16 * 16) % 17 / 8 - 1).view(2, 3, 16, 16)
def logits(state):
    model = VisionTransformer(img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=4, num_classes=10).eval()
    model.load_state_dict(state)
    return model, model(images).flatten().tolist()
model, found = logits(c["model"])
groups = [[list(model.parameters())[0].new_zeros(())] for _ in c["optimizer"]["param_groups"]]
shapes = {i: s["exp_avg"].shape for i, s in c["optimizer"]["state"].items()}
optimizer = torch.optim.AdamW([{"params": [torch.zeros(shapes[i], requires_grad=True) for i in g["params"]]} for g in c["optimizer"]["param_groups"]])
optimizer.load_state_dict(c["optimizer"])
print(json.dumps({"logits": found, "average": logits(c["model_ema"])[1],
                  "groups": [[g["lr_scale"], g["weight_decay"], len(g["params"])] for g in optimizer.param_groups]}))
`, [path]);
    expect(found.groups.map(([scale, decay]) => [scale!.toFixed(3), decay])).toEqual([
      ["0.512", 0], ["0.512", 0.05], ["0.640", 0], ["0.640", 0.05], ["0.800", 0], ["0.800", 0.05], ["1.000", 0], ["1.000", 0.05],
    ]);
    const value = await readCheckpoint<{ model: Map<string, torch.Tensor>; model_ema: Map<string, torch.Tensor> }>(path);
    const model = new VisionTransformer({ imageSize: 16, patchSize: 4, embedDim: 32, depth: 2, numHeads: 4, numClasses: 10 }).eval();
    for (const [state, expected] of [[value.model, found.logits], [value.model_ema, found.average]] as const) {
      model.loadStateDict(state);
      torch.scope(() => torch.noGrad(() => {
        const images = torch.arange(2 * 3 * 16 * 16).remainder(17).to("float32").div(8).sub(1).view([2, 3, 16, 16]);
        expect(maxAbsolute(numbers(model.forward(images)), expected)).toBeLessThan(1e-5);
      }));
    }
    model.dispose();
    disposeTensors(value);
  });
});

describe("other ways to train", () => {
  test("at another image size: positions are interpolated, and trained", async () => {
    let positions = 0;
    const changed = await runFinetune({ ...few, imageSize: [24, 32], epochs: 1, stopAfter: 2 }, {
      onStart: (_, model) => {
        const { posEmbed } = model as VisionTransformer;
        expect([posEmbed.shape, posEmbed.requiresGrad]).toEqual([[1, 1 + 6 * 8, 32], true]);
        positions = torch.scope(() => posEmbed.detach().abs().sum().item());
      },
    }, (model) => torch.scope(() => expect((model as VisionTransformer).posEmbed.detach().abs().sum().item()).not.toBe(positions)));
    expect(changed.result.steps).toBe(2);
    // A grid that is not square goes on, and is an encoder.
    const out = folder();
    const run = { ...few, imageSize: [24, 32] as const, epochs: 1, out };
    await runFinetune({ ...run, stopAfter: 2 });
    expect((await runFinetune({ ...run, pretrained: undefined, imageSize: undefined, resume: out })).result.reason).toBe("finished");
    using read = await readEncoder(out);
    expect(read.spec.imageSize).toEqual([24, 32]);
  });

  test.each([
    ["bfloat16 and SGD", { precision: "bf16" as const, optimizer: "sgd" as const, dropPath: 0 }],
    ["once an epoch, as DeiT's program", { schedule: "epoch" as const, epochs: 3, warmupEpochs: 2 }],
  ])("%s", async (_, changes) => {
    const { steps, result } = await runFinetune({ ...few, ...changes });
    expect(result.reason).toBe("finished");
    if ("schedule" in changes) {
      const rates = [0, 1, 2].map((epoch) => new Set(steps.filter((step) => step.epoch === epoch).map(({ lr }) => lr)));
      expect(rates).toEqual([new Set([1e-6]), new Set([1e-6]), new Set([1e-6 + (2e-3 - 1e-6) / 2])]);
    } else {
      expect(new Set(steps.map(({ lr }) => lr)).size).toBe(steps.length);
    }
  });

  test("a ResNet, and one that begins at random", async () => {
    const resnet = { numHeads: undefined, imageSize: 32, epochs: 1, stopAfter: 2, batchSize: 8 };
    const narrow = fixturePath("checkpoints/resnet_lars_zip.pth.tar");
    const { result, warnings } = await runFinetune({ data: few.data, ...resnet, pretrained: narrow, layerDecay: 0.5 });
    expect([result.steps, warnings]).toEqual([2, []]);
    expect((await runFinetune({ data: few.data, ...resnet, arch: "resnet18", stopAfter: 1 })).result.steps).toBe(1);
  });

  test("without images to judge by", async () => {
    const { train, classes } = await openLabelledSplits(few.data);
    const { result, warnings } = await runFinetune({ ...few, data: { train, classes, val: null }, epochs: 1, out: folder() });
    expect(warnings.join()).toMatch(/there are no images to judge by/);
    expect([result.evaluation, result.bestAcc1, existsSync(result.checkpoint!)]).toEqual([null, 0, true]);
  });

  test("with images that cannot be read: told, counted, and gone on exactly", async () => {
    const data = join(root, "torn");
    cpSync(few.data, data, { recursive: true });
    for (const [part, digit] of [["train", "3"], ["val", "5"]] as const) writeFileSync(join(data, part, digit, "torn.png"), "no picture");
    const [one, two] = [folder(), folder()];
    const told: string[] = [];
    const { result } = await runFinetune({ ...few, data, maxBad: 0.1, out: one }, { onBadImage: ({ name }) => void told.push(name) });
    expect(told.sort()).toEqual(["3/torn.png", "5/torn.png"]);
    expect(result.badImages.length).toBe(2);
    await runFinetune({ ...few, data, maxBad: 0.1, out: two, stopAfter: 6 });
    await runFinetune({ ...few, data, maxBad: 0.1, out: two, resume: two, pretrained: undefined });
    expect(readFileSync(join(two, "checkpoint.pth.tar")).equals(readFileSync(join(one, "checkpoint.pth.tar")))).toBe(true);
    await expect(runFinetune({ ...few, data })).rejects.toThrow(/images could not be read/);
  });
});

describe("what cannot work is refused, or said", () => {
  test.each<[string, Partial<FinetuneOptions>, RegExp]>([
    ["nothing to begin with", { pretrained: undefined }, /nothing says what to fine-tune/],
    ["two beginnings", { resume: "x" }, /pretrained begins a new run and resume goes on with one/],
    ["another architecture", { arch: "vit_base" }, /encoder.pth holds an encoder that has no name, and vit_base was asked for/],
    ["an unknown one", { arch: "vit_bse" }, /Unknown architecture "vit_bse"/],
    ["a size that the patches do not divide", { imageSize: 18 }, /18x18 is not divisible by patchSize 4/],
    ["a drop path of 1", { dropPath: 1 }, /dropPath is 1; give a number of at least 0 and below 1/],
    ["a negative mixup", { mixup: -1 }, /mixupAlpha is -1/],
    ["an unknown policy", { augmentation: { randAugment: "v0" } }, /"v0": only RandAugment is known/],
    ["no repeat", { repeats: 0 }, /repeats is 0; give a whole number of at least 1/],
    ["a layer decay above 1", { layerDecay: 1.1 }, /layerDecay is 1.1; give a number above 0 and at most 1/],
    ["a smoothing of 1", { smoothing: 1 }, /smoothing is 1/],
    ["float16 on the CPU", { precision: "fp16" }, /fp16 needs a GPU/],
    ["a batch that is too large", { batchSize: 201 }, /200 images, fewer than one batch of 201/],
    ["no such checkpoint", { pretrained: "nowhere.pth" }, /there is no checkpoint nowhere.pth/],
  ])("%s", async (_, changes, message) => {
    const out = folder();
    await expect(runFinetune({ ...few, ...changes, out })).rejects.toThrow(message);
    expect(existsSync(out)).toBe(false);
  });

  test("a folder of another run, and a checkpoint of another kind", async () => {
    await expect(runFinetune({ ...few, out: whole })).rejects.toThrow(/already holds a run \(checkpoint.pth.tar\)/);
    const resume = fixturePath("checkpoints/vitmini_adamw_zip.pth.tar");
    await expect(runFinetune({ data: few.data, resume })).rejects.toThrow(/is of pre-training, not of a training with labels; begin with its encoder/);
  });

  test("missing classes, and other numbers of classes", async () => {
    const data = join(root, "nine");
    cpSync(few.data, data, { recursive: true });
    rmSync(join(data, "val", "9"), { recursive: true });
    await expect(runFinetune({ ...few, data })).rejects.toThrow(/the validation part of .* has no images of 9/);
    rmSync(join(data, "train", "9"), { recursive: true });
    const again = { ...all, data, pretrained: undefined, resume: whole, batchSize: 8 };
    const message = /the classifier of .*checkpoint.pth.tar has 10 classes, and these images have 9; .*--pretrained/;
    await expect(runFinetune(again)).rejects.toThrow(message);
    await expect(evaluateFinetuned({ ...quickOptions, ...again })).rejects.toThrow(message);
    for (const part of ["train", "val"]) {
      mkdirSync(join(data, part, "ten"));
      const [first] = readdirSync(join(data, part, "8"));
      renameSync(join(data, part, "8", first!), join(data, part, "ten", first!));
    }
    const { warnings } = await runFinetune({ ...again, stopAfter: 1, epochs: 3, out: undefined });
    expect(warnings.join("\n")).toMatch(/class 9 is ten here and was 9/);
  });

  test("resuming with other options, at another size, or of another architecture", async () => {
    const changes = { ...all, pretrained: undefined, resume: whole, epochs: 3, stopAfter: 1 };
    const { warnings } = await runFinetune({ ...changes, smoothing: 0.2, weightDecay: 0.1 });
    expect(warnings.filter((each) => each.includes("not as in")).map((each) => each.replace(/^.*?: /, ""))).toEqual([
      "epochs is 3 and was 2", "smoothing is 0.2 and was 0.1", "weightDecay is 0.1 and was 0.05, which the saved optimiser keeps",
    ]);
    await expect(runFinetune({ ...changes, layerDecay: 1 })).rejects.toThrow(/layerDecay was 0.8 .* and is 1; .*give 0.8 again \(--layer-decay\)/);
    await expect(runFinetune({ ...changes, imageSize: 32 })).rejects.toThrow(/of a training at 16x16 pixels, which cannot go on at 32x32/);
    await expect(runFinetune({ ...changes, arch: "vit_small" })).rejects.toThrow(/is of custom, and vit_small was asked for/);
  });

  test("a loss that is not finite, before a weight changes", async () => {
    using vit = new VisionTransformer({ imageSize: 16, patchSize: 4, embedDim: 32, depth: 1, numHeads: 4, numClasses: 0 });
    torch.noGrad(() => vit.norm.bias!.fill_(NaN));
    const pretrained = join(root, "nan.pth");
    await writeCheckpoint(pretrained, { model: vit.stateDict() });
    const failed = runFinetune({ ...few, pretrained });
    await expect(failed).rejects.toThrow(NonFiniteError);
    await expect(failed).rejects.toThrow(/the loss is NaN. Training stopped before the weights were changed/);
    const out = folder();
    await expect(runFinetune({ ...few, out, lr: 1e35, warmupLr: 1e35 })).rejects.toThrow(/would overflow in the next update/);
    expect(readRunLog(join(out, "log.jsonl")).end).toMatchObject({ reason: "failed" });
  });
});
