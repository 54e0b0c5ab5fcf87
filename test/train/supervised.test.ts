/** The folder and the checkpoints of trainings with labels. */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { disposeTensors, readCheckpoint, writeCheckpoint } from "../../lib/checkpoint/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import { SGD } from "../../lib/optim/index.js";
import { readRunLog } from "../../lib/report/index.js";
import * as torch from "../../lib/torch/index.js";
import { CheckpointSaveError } from "../../lib/train/runs/checkpointFolder.js";
import { findCheckpoint, requireFreshFolder, RunFolderError } from "../../lib/train/runs/checkpointFiles.js";
import type { RunFacts } from "../../lib/train/runs/ownPart.js";
import { ResumeError } from "../../lib/train/runs/resumable.js";
import { SupervisedFolder } from "../../lib/train/runs/supervisedFolder.js";
import { SupervisedRecorder, type SupervisedHooks, type SupervisedStart } from "../../lib/train/runs/supervisedRecorder.js";
import { SavedSupervised, supervisedStateValue, type SupervisedTrainee } from "../../lib/train/runs/supervisedState.js";
import { fixturePath } from "../support/fixtures.js";
import { runPython, testPython } from "../support/python.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();
const root = temporaryFolder("supervised");
let counter = 0;
const newFolder = (): string => join(root, `run-${counter++}`);

const classes = ["cat", "dog", "owl"];
const facts: RunFacts = { arch: "vit_tiny", seed: 3, images: 12, stepsPerEpoch: 4, batchSize: 3, recipe: { momentum: 0.9, weightDecay: 0, epochs: 2 } };
const progress = { position: { epoch: 1, step: 2 }, bestAcc1: 100 / 3, badImages: [7, 2] };

/** A classifier after one step of its head, as a linear probe trains it. */
function trained(seed = 0): SupervisedTrainee & Disposable {
  torch.manualSeed(seed);
  const model = new VisionTransformer({ imageSize: 16, patchSize: 8, embedDim: 8, depth: 1, numHeads: 2, numClasses: 3 });
  for (const [key, parameter] of model.namedParameters()) parameter.requiresGrad_(key.startsWith("head."));
  const head = model.head.parameters();
  const optimizer = new SGD(head, { lr: 0.5, momentum: 0.9 });
  torch.scope(() => model.forward(torch.ones([2, 3, 16, 16])).square().sum().backward());
  optimizer.step();
  optimizer.zeroGrad();
  return { model, optimizer, [Symbol.dispose]: () => [optimizer, model].forEach((each) => each.dispose()) };
}

async function write(path: string, trainee: SupervisedTrainee, changes = {}): Promise<void> {
  const value = torch.scope(() => {
    const made = supervisedStateValue(trainee, progress, facts, classes);
    [made.best_acc1, made.moco_v3_run.rng_state].forEach((tensor) => torch.keep(tensor));
    return made;
  });
  await writeCheckpoint(path, { ...value, ...changes });
  [value.best_acc1, value.moco_v3_run.rng_state].forEach((tensor) => tensor.dispose());
}

const bytesOf = ({ model }: SupervisedTrainee): Uint8Array[] => [...model.stateDict().values()].map((tensor) => tensor.bytes());

describe("a checkpoint", () => {
  test("has upstream's keys, and ours under one of its own", async () => {
    using trainee = trained();
    const path = join(root, "keys.pth.tar");
    await write(path, trainee);
    const value = await readCheckpoint<Record<string, never>>(path);
    expect(Object.keys(value)).toEqual(["epoch", "arch", "state_dict", "best_acc1", "optimizer", "moco_v3_run"]);
    const { best_acc1: best, state_dict: state } = value as unknown as { best_acc1: torch.Tensor; state_dict: Map<string, torch.Tensor> };
    expect([best.shape, best.dtype, best.item()]).toEqual([[], "float32", Math.fround(100 / 3)]);
    expect([...state.keys()].slice(-2)).toEqual(["module.head.weight", "module.head.bias"]);
    expect(value.moco_v3_run).toMatchObject({ epoch: 1, step: 2, num_heads: 2, bad_images: [2, 7], classes, best_acc1: 100 / 3 });
    disposeTensors(value);
  });

  test("is read and goes on: weights, moments, position, best accuracy", async () => {
    using trainee = trained();
    using other = trained(1);
    const path = join(root, "whole.pth.tar");
    await write(path, trainee);
    using saved = await SavedSupervised.read(path);
    expect(saved).toMatchObject({ arch: "vit_tiny", position: { epoch: 1, step: 2 }, bestAcc1: 100 / 3, numHeads: 2, classes });
    expect([saved.knownBad(12), saved.knownBad(13)]).toEqual([[2, 7], undefined]);
    expect(saved.compare(facts)).toEqual([]);
    expect(saved.compareClasses("head", 3, classes)).toEqual([]);
    expect(saved.restore(other)).toEqual([]);
    expect(bytesOf(other)).toEqual(bytesOf(trainee));
    const moments = ({ optimizer }: SupervisedTrainee): Uint8Array[] =>
      [...optimizer!.stateDict().state.values()].flatMap((state) => [...state.values()].map((tensor) => tensor.bytes()));
    expect(moments(other)).toEqual(moments(trainee));
  });

  test("of upstream's linear probe goes on with a whole epoch", async () => {
    using saved = await SavedSupervised.read(fixturePath("checkpoints/lincls_vit_zip.pth.tar"));
    expect(saved).toMatchObject({ arch: "vit_small", position: { epoch: 3, step: 0 }, bestAcc1: 75, numHeads: null, classes: null, facts: null });
    using model = new VisionTransformer({ imageSize: 16, patchSize: 8, embedDim: 16, depth: 1, numHeads: 4, numClasses: 10 });
    using optimizer = new SGD(model.head.parameters(), { lr: 1, momentum: 0.9 });
    expect(saved.compareClasses("head", 10, [])).toEqual([]);
    expect(saved.restore({ model, optimizer })).toEqual([expect.stringMatching(/^the random numbers/)]);
    expect(optimizer.paramGroups[0]!.lr).toBeCloseTo(0.2618, 4);
  });

  (testPython === null ? test.skip : test)("opens with torch.load(weights_only=True), and the optimiser's state with torch.optim", async () => {
    using trainee = trained();
    const path = join(root, "python.pth.tar");
    await write(path, trainee);
    const found = runPython(
      `
import json, sys, torch
c = torch.load(sys.argv[1], weights_only=True)
state = {k.removeprefix("module."): v for k, v in c["state_dict"].items()}
head = [torch.nn.Parameter(state["head.weight"]), torch.nn.Parameter(state["head.bias"])]
optimizer = torch.optim.SGD(head, 1.0)
optimizer.load_state_dict(c["optimizer"])
best = c["best_acc1"]
print(json.dumps([c["epoch"], best.dim(), max(torch.tensor(10.0), best).item(), optimizer.param_groups[0]["momentum"], len(optimizer.state)]))
`,
      [path],
    );
    expect(found).toEqual([1, 0, Math.fround(100 / 3), 0.9, 2]);
  });
});

describe("what does not fit is refused with what to do", () => {
  test("another architecture, other batches in the middle of an epoch", async () => {
    using trainee = trained();
    const path = join(root, "fit.pth.tar");
    await write(path, trainee);
    using saved = await SavedSupervised.read(path);
    expect(() => saved.compare({ ...facts, arch: "vit_small" })).toThrow(/is of vit_tiny, and this run trains vit_small; give --arch vit_tiny/);
    expect(() => saved.compare({ ...facts, batchSize: 4 })).toThrow(/middle of an epoch.*batchSize is 4 and was 3/);
    expect(saved.compare({ ...facts, recipe: { momentum: 0.8, weightDecay: 0, epochs: 3 } })).toEqual([
      "epochs is 3 and was 2", "momentum is 0.8 and was 0.9, which the saved optimiser keeps",
    ]);
  });

  test("another number of classes, or other classes", async () => {
    using saved = await SavedSupervised.read(fixturePath("checkpoints/lincls_vit_zip.pth.tar"));
    expect(() => saved.compareClasses("head", 3, classes)).toThrow(/has 10 classes, and the one for these images 3.*--num-classes 10/);
    expect(() => saved.compareClasses("head", 12, Array(12).fill("x"))).toThrow(/has 10 classes, and the one for these images 12.*--pretrained/);
    expect(() => saved.compareClasses("fc", 10, [])).toThrow(/has no classifier \(no fc.weight\)/);
    using trainee = trained();
    const path = join(root, "classes.pth.tar");
    await write(path, trainee);
    using ours = await SavedSupervised.read(path);
    expect(ours.compareClasses("head", 3, ["cat", "eel", "owl"])).toEqual([expect.stringMatching(/^class 1 is eel here and was dog/)]);
  });

  test("a checkpoint of pre-training, and a file without a network", async () => {
    const pretraining = SavedSupervised.read(fixturePath("checkpoints/vitmini_adamw_zip.pth.tar"));
    await expect(pretraining).rejects.toThrow(/is of pre-training.*--pretrained/);
    const path = join(root, "nothing.pth");
    await writeCheckpoint(path, { epoch: 1 });
    await expect(SavedSupervised.read(path)).rejects.toThrow(ResumeError);
  });
});

describe("a run's folder", () => {
  test("has each checkpoint under the same name, and the best one besides", async () => {
    const path = newFolder();
    const folder = await SupervisedFolder.open(path);
    using weight = torch.zeros([4]);
    const saved: string[] = [];
    for (const [epoch, best] of [[1, true], [2, true], [3, false]] as const) {
      await folder.save({ epoch, w: weight }, best, (save) => saved.push(save.path));
      weight.fill_(epoch); // the state was copied
    }
    await folder.flush();
    await folder.close();
    expect(readdirSync(path).sort()).toEqual(["checkpoint.pth.tar", "model_best.pth.tar"]);
    expect(saved).toEqual(Array(3).fill(join(path, "checkpoint.pth.tar")));
    const read = async (name: string): Promise<[unknown, unknown]> => {
      const value = await readCheckpoint<{ epoch: number; w: torch.Tensor }>(join(path, name));
      using w = value.w;
      return [value.epoch, w.toArray()];
    };
    expect(await read("checkpoint.pth.tar")).toEqual([3, [2, 2, 2, 2]]);
    expect(await read("model_best.pth.tar")).toEqual([2, [1, 1, 1, 1]]);
    expect(findCheckpoint(path)).toBe(join(path, "checkpoint.pth.tar"));
    expect(() => requireFreshFolder(path)).toThrow(RunFolderError);
    expect(() => requireFreshFolder(path, join(path, "checkpoint.pth.tar"))).not.toThrow();
  });

  test("without background, the same bytes; beginnings of killed runs are removed", async () => {
    const path = newFolder();
    mkdirSync(path);
    const torn = join(path, ".checkpoint.pth.tar.00000000-1-00000000.tmp");
    writeFileSync(torn, "half");
    utimesSync(torn, 0, 0);
    const folders = [await SupervisedFolder.open(path, { background: false }), await SupervisedFolder.open(newFolder())];
    expect(existsSync(torn)).toBe(false);
    using weight = torch.ones([3]);
    for (const folder of folders) {
      await folder.save({ w: weight }, true);
      await folder.flush();
      await folder.close();
    }
    const files = folders.flatMap((folder) => ["checkpoint.pth.tar", "model_best.pth.tar"].map((name) => readFileSync(join(folder.path, name))));
    for (const file of files) expect(file.equals(files[0]!)).toBe(true);
  });

  test("a checkpoint that cannot be written is told of, with what is there", async () => {
    const path = newFolder();
    const folder = await SupervisedFolder.open(path);
    using weight = torch.ones([3]);
    await folder.save({ w: weight }, false);
    await folder.flush();
    copyFileSync(join(path, "checkpoint.pth.tar"), join(root, "before.pth.tar"));
    mkdirSync(join(path, "model_best.pth.tar")); // in the way
    await folder.save({ w: weight }, true);
    await expect(folder.flush()).rejects.toThrow(CheckpointSaveError);
    await folder.save({ w: weight }, true);
    await expect(folder.flush()).rejects.toThrow(/checkpoint\.pth\.tar is complete: go on from it by --resume .*checkpoint\.pth\.tar$/);
    await folder.close();
    expect(readFileSync(join(path, "checkpoint.pth.tar")).equals(readFileSync(join(root, "before.pth.tar")))).toBe(true);
  });
});

test("the recorder keeps log and checkpoints, and finds the best epoch", async () => {
  const path = newFolder();
  using trainee = trained();
  const told: string[] = [];
  const hooks: SupervisedHooks = {
    onStart: ({ firstStep }) => void told.push(`start ${firstStep}`), onEvaluation: ({ epoch, best }) => told.push(`epoch ${epoch} ${best}`),
    onBadImage: ({ name }) => told.push(name),
  };
  const start: SupervisedStart = {
    facts, options: { lr: 0.1 }, device: "cpu", epochs: 4, start: { epoch: 1, step: 0 }, resumedFrom: null, bestAcc1: 20, knownBad: 0, classes,
    background: true, further: () => ({ extra: 5 }),
  };
  const bad = [{ index: 3, name: "torn.png", reason: "torn" }];
  {
    await using recorder = new SupervisedRecorder(path, hooks);
    await recorder.start(start, trainee);
    const step = { step: 4, epoch: 1, stepInEpoch: 0, loss: 2, lr: 0.1, acc1: 50, gradientNorm: 1, dataWaitMs: 0, scale: 1 };
    recorder.step(step, 3, bad);
    recorder.step({ ...step, step: 5, stepInEpoch: 1 }, 3, bad);
    for (const [epoch, acc1] of [[1, 20], [2, 30], [3, 25]] as const) {
      recorder.evaluated(epoch, { acc1, acc5: 90, loss: 1, images: 9, bad });
      await recorder.save({ epoch: epoch + 1, step: 0 }, bad);
    }
    await recorder.flush();
    expect([recorder.bestAcc1, recorder.checkpoint]).toEqual([30, join(path, "checkpoint.pth.tar")]);
    recorder.end("finished");
  }
  expect(told).toEqual(["start 4", "torn.png", "epoch 1 false", "torn.png", "epoch 2 true", "epoch 3 false"]);
  const log = readRunLog(join(path, "log.jsonl"));
  expect(log.steps.map(({ step, acc1 }) => [step, acc1])).toEqual([[4, 50], [5, 50]]);
  expect(log.evaluations.map(({ epoch, acc1, best }) => [epoch, acc1, best])).toEqual([[1, 20, false], [2, 30, true], [3, 25, false]]);
  expect(log.checkpoints.map(({ file, steps }) => [file, steps])).toEqual([8, 12, 16].map((steps) => ["checkpoint.pth.tar", steps]));
  expect(log.end).toMatchObject({ reason: "finished" });
  using best = await SavedSupervised.read(join(path, "model_best.pth.tar"));
  expect([best.position, best.bestAcc1, best.value.extra]).toEqual([{ epoch: 3, step: 0 }, 30, 5]);
});
