/** Upstream's checkpoints, resumed here, end where upstream's own training ends. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { disposeTensors, readCheckpoint } from "../../../lib/checkpoint/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { SavedTraining, type Trainee } from "../../../lib/train/runs/trainingState.js";
import { maxAbsolute, numbers } from "../../support/digest.js";
import { fixturePath, readJson, readNpy, readNpz } from "../../support/fixtures.js";
import { buildTrainee, disposeTrainee, save, trainEpochs, trainStep, valuesOf, type TinyTraining } from "./tinyTraining.js";

interface Golden extends TinyTraining {
  losses_f64: number[];
  losses_f32: number[];
  order: string[];
  scaler_at_end: Record<string, number>;
  lr_at_end: number;
}

const { cases, resumedAt } = readJson<{ cases: Record<string, Golden>; resumedAt: number }>("resume/manifest.json");

const live = torch.memory().tensors;
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "moco-resume-upstream-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
  expect(torch.memory().tensors).toBe(live);
});

/** Puts a checkpoint into a new training and returns what begins anew. */
async function restore(path: string, trainee: Trainee): Promise<string[]> {
  using saved = await SavedTraining.read(path);
  return saved.restore(trainee);
}

function golden(name: string): Map<string, Float64Array> {
  const { data } = readNpy<Float64Array>(`resume/${name}/final_f64.npy`);
  let at = 0;
  return new Map(cases[name]!.order.map((entry) => {
    const [key, count] = entry.split(" ") as [string, string];
    at += Number(count);
    return [key, data.subarray(at - Number(count), at)];
  }));
}

function worst(found: Map<string, Float64Array>, expected: Map<string, Float64Array>, error: typeof maxAbsolute): number {
  expect([...found.keys()]).toEqual([...expected.keys()]);
  return Math.max(...[...expected].map(([key, values]) => error(found.get(key)!, values)));
}

describe.each(Object.keys(cases))("%s", (name) => {
  const training = cases[name]!;
  const middle = fixturePath(`resume/${name}/middle.pth.tar`);
  const { epochs } = training.options;

  test("in float64, the same weights, moments, losses and loss scale", async () => {
    const trainee = buildTrainee(training, "float64");
    expect(await restore(middle, trainee)).toEqual([expect.stringContaining("random numbers")]);
    const losses = trainEpochs(trainee, training, resumedAt, epochs, "float64");
    expect(maxAbsolute(losses, training.losses_f64)).toBeLessThan(1e-9);
    expect(worst(valuesOf(trainee), golden(name), maxAbsolute)).toBeLessThan(1e-8);
    const scaler = Object.entries(trainee.scaler.stateDict()).map(([key, value]) => [key, Number(value)]);
    expect(Object.fromEntries(scaler)).toEqual(training.scaler_at_end);
    expect(Number(trainee.optimizer.stateDict().param_groups[0]!["lr"])).toBeCloseTo(training.lr_at_end, 15);
    disposeTrainee(trainee);
  });

  test("in float32, the losses of upstream's own --resume", async () => {
    const trainee = buildTrainee(training, "float32");
    await restore(middle, trainee);
    const losses = trainEpochs(trainee, training, resumedAt, epochs, "float32");
    expect(maxAbsolute(losses, training.losses_f32)).toBeLessThan(2e-4);
    disposeTrainee(trainee);
  });

  test("saved here on the way and resumed once more, the same bytes", async () => {
    const [whole, first, second] = [0, 1, 2].map(() => buildTrainee(training, "float32")) as [Trainee, Trainee, Trainee];
    await restore(middle, whole);
    await restore(middle, first);
    trainEpochs(whole, training, resumedAt, epochs, "float32");
    trainEpochs(first, training, resumedAt, resumedAt + 1, "float32");
    const path = join(folder, `${name}.pth.tar`);
    await save(path, first, { epoch: resumedAt + 1, step: 0 }, training);
    expect(await restore(path, second)).toEqual([]);
    trainEpochs(second, training, resumedAt + 1, epochs, "float32");
    expect(valuesOf(second)).toEqual(valuesOf(whole));
    expect(second.scaler.stateDict()).toEqual(whole.scaler.stateDict());
    for (const trainee of [whole, first, second]) disposeTrainee(trainee);
  });
});

interface Trajectory {
  hyper_parameters: {
    kind: "vit" | "resnet"; img: number; patch: number; dim: number; depth: number; heads: number; div: number; stop?: boolean;
    opt: "adamw" | "lars"; lr: number; wd: number; T: number; dim_out: number; mlp: number; ipe: number; epochs: number; warmup: number;
    m: number; batch: number; arch_name: string; name: string;
  };
}

function trainingOf(sizes: Trajectory["hyper_parameters"], scaler = false): TinyTraining {
  const { kind, img, batch, opt, lr, epochs, warmup } = sizes;
  return {
    arch: kind === "resnet"
      ? { resnet_tiny: { layers: [2, 2, 2, 2], width: 64 / sizes.div } }
      : {
        vit_tiny: {
          img_size: img, patch_size: sizes.patch, embed_dim: sizes.dim, depth: sizes.depth, num_heads: sizes.heads, stop_grad_conv1: sizes.stop,
        },
      },
    batches: { seed: 0, size: batch, image: img, perEpoch: sizes.ipe },
    options: {
      optimizer: opt, lr: (lr * 256) / batch, wd: sizes.wd, "moco-t": sizes.T, "moco-m": sizes.m, "moco-dim": sizes.dim_out,
      "moco-mlp-dim": sizes.mlp, epochs, "warmup-epochs": warmup, "batch-size": batch,
    },
    scaler,
  };
}

describe.each(["vit_adamw", "resnet18_div32_lars"])("from bare initial weights, stopped half-way and resumed: moco/%s", (name) => {
  test("the reference's losses and final state", async () => {
    const training = trainingOf(readJson<Trajectory>(`moco/${name}/manifest.json`).hyper_parameters);
    const steps = readJson<{ loss_f64: number; epoch_fraction: number }[]>(`moco/${name}/steps.json`);
    const inputs = readNpz(`moco/${name}/inputs.npz`);
    const losses: number[] = [];
    const run = (trainee: Trainee, from: number, to: number): void => {
      for (let step = from; step < to; step++) {
        torch.scope(() => {
          const views = ["x1", "x2"].map((view) => {
            const { data, shape } = inputs.get(`${view}_${step}`)!;
            return torch.tensor(data, shape).to("float64");
          });
          losses.push(trainStep(trainee, training.options, steps[step]!.epoch_fraction, views as [Tensor, Tensor]));
        });
      }
    };
    const [first, second] = [buildTrainee(training, "float64"), buildTrainee(training, "float64")];
    const afresh = await restore(fixturePath(`moco/${name}/init.pth`), first);
    expect(afresh.map((each) => /^the (\w+)/.exec(each)?.[1])).toEqual(["optimiser", "epochs", "random"]);
    run(first, 0, 3);
    const path = join(folder, `${name}.pth.tar`);
    await save(path, first, { epoch: 1, step: 1 }, training);
    expect(await restore(path, second)).toEqual([]);
    run(second, 3, 6);
    expect(maxAbsolute(losses, steps.map(({ loss_f64: loss }) => loss))).toBeLessThan(1e-9);

    const final = await readCheckpoint<Checkpoint>(fixturePath(`moco/${name}/final_f64.pth`));
    const expected = new Map([...final.state_dict].map(([key, tensor]) => [`state_dict.${key}`, numbers(tensor)]));
    for (const [index, tensors] of final.optimizer.state) {
      for (const [key, tensor] of Object.entries(tensors)) expected.set(`optimizer.${index}.${key}`, numbers(tensor as Tensor));
    }
    expect(worst(valuesOf(second), expected, maxAbsolute)).toBeLessThan(1e-8);
    disposeTensors(final);
    [first, second].forEach(disposeTrainee);
  });
});

interface Checkpoint {
  epoch: number;
  arch: string;
  state_dict: Map<string, Tensor>;
  optimizer: { state: Map<number, Record<string, Tensor | number>>; param_groups: Record<string, unknown>[] };
  scaler: Record<string, unknown>;
}

describe("upstream's checkpoint, resumed here and saved again, holds the same", () => {
  const { specs } = readJson<{ specs: Trajectory["hyper_parameters"][] }>("checkpoints/manifest.json");
  const files: [string, string][] = [
    ["vit_stopgrad_adamw_zip", "vit_stopgrad_adamw"], ["vitmini_adamw_cuda0_legacy", "vitmini_adamw"], ["vitmini_adamw_torch17_zip", "vitmini_adamw"],
    ["resnet_lars_zip", "resnet_lars"], ["resnet_lars_legacy", "resnet_lars"],
  ];
  test.each([true, false])("with losses scaled: %p", async (scaler) => {
    for (const [file, spec] of files) {
      const training = trainingOf(specs.find(({ name }) => name === spec)!, scaler);
      const original = fixturePath(`checkpoints/${file}.pth.tar`);
      const path = join(folder, `${file}.pth.tar`);
      const trainee = buildTrainee(training, "float32");
      using saved = await SavedTraining.read(original);
      expect(saved.restore(trainee)).toHaveLength(1);
      await save(path, trainee, saved.position!, training, saved.arch!);
      const [before, after] = [await readCheckpoint<Checkpoint>(original, { tagFloats: true }), await readCheckpoint<Checkpoint>(path, { tagFloats: true })];
      const plain = ({ epoch, arch, state_dict: state, optimizer, scaler: scale }: Checkpoint): unknown => ({
        epoch, arch, scaler: scaler ? scale : {},
        state: [...state].map(([key, tensor]) => [key, tensor.dtype, tensor.shape, text(tensor)]),
        optimizer: [...optimizer.state].map(([index, values]) => [
          index, Object.entries(values).map(([key, value]) => [key, value instanceof torch.Tensor && key !== "step" ? text(value) : count(value)]),
        ]),
      });
      expect(plain(after)).toEqual(plain(before));
      expect(after.optimizer.param_groups).toMatchObject(before.optimizer.param_groups); // older files lack some options
      disposeTensors([before, after]);
      disposeTrainee(trainee);
    }
  });
});

/** Steps: PyTorch before 1.12 saved a number. */
function count(value: Tensor | number): number {
  return Number(typeof value === "number" ? value : value.item());
}

/** A tensor's bytes in a form that compares fast. */
function text(tensor: Tensor): string {
  return Buffer.from(tensor.bytes()).toString("base64");
}
