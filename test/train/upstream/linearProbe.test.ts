/** Linear probes that upstream begins and we finish, and the other way round; needs MOCO_TEST_PYTHON and MOCO_TEST_UPSTREAM. */
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { disposeTensors, readCheckpoint } from "../../../lib/checkpoint/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { scoreOf } from "../../../lib/train/evaluateClassifier.js";
import { LinearHeads } from "../../../lib/train/linearProbe/linearHeads.js";
import { SavedSupervised } from "../../../lib/train/runs/supervisedState.js";
import { maxRelative, numbers } from "../../support/digest.js";
import { writeDigits } from "../../support/digits.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";
import { runProbe } from "../probeRun.js";
import { encoderOf, pretrainHere, views, type TinyTraining } from "./tinyTraining.js";
import { canRunUpstream, runUpstream } from "./upstream.js";

expectNoTensorsLeft();
const root = temporaryFolder("upstream-probe");

const options: TinyTraining["options"] = {
  optimizer: "adamw", lr: 0.064, wd: 0.1, "moco-t": 0.2, "moco-m": 0.99, "moco-dim": 8, "moco-mlp-dim": 16, epochs: 4, "warmup-epochs": 1, "batch-size": 4,
};
const trainings: [string, TinyTraining][] = [
  ["ViT", {
    arch: { vit_tiny: { img_size: 16, patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2 } },
    batches: { seed: 21, size: 8, image: 16, perEpoch: 2, classes: 4 }, options, scaler: false,
  }],
  ["ResNet", {
    arch: { resnet_tiny: { layers: [1, 1, 1, 1], width: 4 } },
    batches: { seed: 22, size: 8, image: 32, perEpoch: 2, classes: 4 }, options: { ...options, optimizer: "lars" }, scaler: false,
  }],
];
/** As upstream's classifier always has. */
const numClasses = 1000;
const epochs = 4;
const lr = 2;

/** What upstream does in some epochs with its formula's batches, done here from a checkpoint; gives the classifier, then its moments. */
async function goOnHere(path: string, { arch, batches }: TinyTraining, to: number): Promise<{ values: Float64Array[]; best: number }> {
  using saved = await SavedSupervised.read(path);
  using encoder = encoderOf(arch)(numClasses).eval();
  const heads = new LinearHeads({ featureDim: encoder.featureDim, numClasses, rates: [(lr * batches.size) / 256], momentum: 0.9, weightDecay: 0, epochs, device: "cpu" });
  const { linear, optimizer } = heads.heads[0]!;
  encoder.replaceHead(() => linear);
  saved.restore({ model: encoder, optimizer });
  const labels = Array.from({ length: batches.size }, (_, i) => i % batches.classes!);
  const features = (step: number): Tensor => torch.scope(() => torch.noGrad(() => encoder.forwardFeatures(views(batches, step, "float32")[0])));
  let best = saved.bestAcc1;
  for (let epoch = saved.position!.epoch; epoch < to; epoch++) {
    let hits = 0;
    for (let stepInEpoch = 0; stepInEpoch < batches.perEpoch; stepInEpoch++) {
      const step = epoch * batches.perEpoch + stepInEpoch;
      using batch = features(step);
      heads.step(batch, labels, { step, epoch, stepInEpoch });
    }
    for (let i = 0; i < batches.perEpoch; i++) {
      torch.scope(() => torch.noGrad(() => {
        hits += scoreOf(linear.forward(features(epoch * batches.perEpoch + i)), torch.tensor(labels, undefined, { dtype: "int64" })).correct1;
      }));
    }
    best = Math.max(best, (100 * hits) / (batches.perEpoch * batches.size));
  }
  const moments = [...optimizer.stateDict().state.values()].map((each) => numbers(each.get("momentum_buffer")!));
  const values = [...linear.parameters().map((each) => numbers(each)), ...moments];
  heads.release(linear);
  return { values, best };
}

async function valuesIn(path: string): Promise<{ values: Float64Array[]; best: number; epoch: number }> {
  const value = await readCheckpoint<{
    epoch: number; best_acc1: Tensor; state_dict: Map<string, Tensor>; optimizer: { state: Map<number, Record<string, Tensor>> };
  }>(path);
  const head = [...value.state_dict].filter(([key]) => /^module\.(head|fc)\./.test(key)).map(([, tensor]) => numbers(tensor));
  const moments = [...value.optimizer.state.values()].map((each) => numbers(each.momentum_buffer!));
  const found = { values: [...head, ...moments], best: Number(value.best_acc1.item()), epoch: value.epoch };
  disposeTensors(value);
  return found;
}

(canRunUpstream ? describe : describe.skip).each(trainings)("with upstream's own main_lincls.py: %s", (name, training) => {
  const digits = join(root, `digits-${name}`);
  let pretrained: string;
  beforeAll(async () => {
    await writeDigits(digits, { count: 400, pixels: 16 });
    pretrained = await pretrainHere(join(root, name), training);
  }, 60_000);

  /** Its whole run, or the rest of one; the path of its last checkpoint. */
  const upstream = (args: string[] = []): string => {
    const flags = ["--pretrained", pretrained, "--epochs", String(epochs), "-b", String(training.batches.size), "--lr", String(lr), ...args];
    const { folder } = runUpstream(root, training, { program: "main_lincls", dtype: "float32", args: flags });
    return join(folder, "checkpoint.pth.tar");
  };

  test("it goes on with our checkpoint as we do, finds the encoder unchanged, and its best accuracy goes on from ours", async () => {
    const out = join(root, `ours-${name}`);
    const { result } = await runProbe({
      data: digits, pretrained, numClasses, out, batchSize: 160, baseLr: 1, epochs, imageSize: training.batches.image, stopAfter: 4,
    });
    expect([result.reason, result.steps]).toEqual(["stop-after", 4]);
    const ours = join(out, "checkpoint.pth.tar");
    const [found, expected] = [await goOnHere(ours, training, epochs), await valuesIn(upstream(["--resume", ours]))];
    expect(expected.epoch).toBe(epochs);
    found.values.forEach((values, i) => expect(maxRelative(values, expected.values[i]!)).toBeLessThan(1e-4));
    expect(Math.abs(found.best - expected.best)).toBeLessThan(1e-4);
  }, 120_000);

  test("we go on with its checkpoint, and it goes on with what we make of it", async () => {
    const theirs = upstream();
    const out = join(root, `again-${name}`);
    const { result, warnings, steps } = await runProbe({
      data: digits, pretrained, resume: theirs, numClasses, out, batchSize: 160, baseLr: 1, epochs: epochs + 2, imageSize: training.batches.image,
      stopAfter: 2,
    });
    expect(warnings).toContainEqual(expect.stringMatching(/^begins anew: the random numbers/));
    expect([result.reason, steps[0]!.epoch]).toEqual(["stop-after", epochs]);
    const { epoch, best } = await valuesIn(join(out, "checkpoint.pth.tar"));
    expect([epoch, best]).toEqual([epochs + 1, Math.max((await valuesIn(theirs)).best, Math.fround(result.evaluation!.acc1))]);
    const { folder } = runUpstream(root, training, {
      program: "main_lincls", dtype: "float32",
      args: ["--pretrained", pretrained, "--epochs", String(epochs + 2), "-b", "8", "--lr", "1", "--resume", join(out, "checkpoint.pth.tar")],
    });
    expect((await valuesIn(join(folder, "checkpoint.pth.tar"))).epoch).toBe(epochs + 2);
  }, 120_000);
});
