/** A step that is not finite is saved before anything is changed, and done again it tells where that comes from. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { disposeTensors, readCheckpoint, writeCheckpoint } from "../../../lib/checkpoint/index.js";
import type { MoCo } from "../../../lib/moco/index.js";
import { Linear, Module } from "../../../lib/nn/index.js";
import * as torch from "../../../lib/torch/index.js";
import { Tensor } from "../../../lib/torch/index.js";
import { NonFiniteError } from "../../../lib/train/runs/finiteGuard.js";
import { replayStep, ReplayError } from "../../../lib/train/stability/replayStep.js";
import { traceStep } from "../../../lib/train/stability/stepTrace.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";
import { runTiny, stateBytes, tinyOptions } from "../tinyRun.js";

expectNoTensorsLeft();

let root: string;
beforeAll(() => void (root = mkdtempSync(join(tmpdir(), "moco-replay-"))));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const culprit = "base_encoder.blocks.1.mlp.fc2";

/** Trains four steps and lets the next one overflow in the culprit; its weights are finite, but their products are not. */
async function overflow(out: string | undefined, changes: Parameters<typeof runTiny>[0] = {}): Promise<{ error: NonFiniteError; before: Map<string, Uint8Array> }> {
  let network: MoCo | undefined;
  let before = new Map<string, Uint8Array>();
  const failure = await runTiny({ out, ...changes }, {
    onStart: (_, moco) => void (network = moco),
    onStep: ({ step }) => {
      if (step !== 3) return;
      const [, weight] = network!.namedParameters().find(([name]) => name === `${culprit}.weight`)!;
      torch.noGrad(() => weight.fill_(changes.precision === "fp64" ? 1.7e308 : 3e38)); // near the largest number
      before = stateBytes(network!);
    },
  }).then(() => null, (error: unknown) => error);
  expect(failure).toBeInstanceOf(NonFiniteError);
  return { error: failure as NonFiniteError, before };
}

test("a run in chunks, whose views are bytes, is done again from them", async () => {
  const { error } = await overflow(join(root, "chunks"), { microBatch: 4 });
  const { finding } = await replayStep(error.replay!, { encoder: tinyOptions.encoder });
  expect(finding).toMatchObject({ pass: "forward", module: culprit });
});

test("a run in float64 is done again in it", async () => {
  const { error } = await overflow(join(root, "double"), { precision: "fp64" });
  const { finding, precision } = await replayStep(error.replay!, { encoder: tinyOptions.encoder });
  expect(precision).toBe("fp64");
  expect(finding).toMatchObject({ pass: "forward", module: culprit, operator: "linear", output: { dtype: "float64" } });
  expect(finding!.inputs.some(({ max }) => max! > 1.6e308)).toBe(true);
});

describe("a run that overflows", () => {
  let file: string;
  let before: Map<string, Uint8Array>;
  let out: string;
  beforeAll(async () => {
    out = join(root, "run");
    const failed = await overflow(out);
    ({ before } = failed);
    file = failed.error.replay!;
    expect(failed.error.message).toContain(`moco pretrain --replay ${file}`);
  });

  test("leaves the batch and the state before the step", async () => {
    expect(file).toBe(join(out, "failed_step_000004.pth.tar"));
    const value = await readCheckpoint<{ state_dict: Map<string, Tensor>; failed_step: Record<string, unknown>; moco_v3_run: { epoch: number; step: number } }>(file);
    // The momentum encoder before its move, too.
    for (const [key, bytes] of before) expect([key, value.state_dict.get(`module.${key}`)!.bytes()]).toEqual([key, bytes]);
    expect(value.moco_v3_run).toMatchObject({ epoch: 1, step: 1 });
    const { x1, x2, ...step } = value.failed_step as { x1: Tensor; x2: Tensor; names: string[]; indices: number[] };
    expect([x1.shape, x2.shape]).toEqual([[4, 3, 16, 16], [4, 3, 16, 16]]);
    expect(step).toMatchObject({ step: 4, what: "loss", precision: "fp32", device: "cpu", scale: 1 });
    expect(step.names).toEqual(step.indices.map((index) => `image ${index}`));
    disposeTensors(value);
  });

  test("is told where, in which operator and from what", async () => {
    const { encoder } = tinyOptions;
    const { finding, loss, step, images } = await replayStep(file, { encoder });
    expect([step, images.length, Number.isFinite(loss)]).toEqual([4, 4, false]);
    expect(finding).toMatchObject({ pass: "forward", module: culprit, kind: "Linear", operator: "linear" });
    expect(finding!.output.infinite + finding!.output.nan).toBeGreaterThan(0);
    expect(finding!.inputs.map(({ infinite, nan }) => infinite + nan)).toEqual([0, 0, 0]);
    expect(finding!.inputs.some(({ max }) => max! > 2.9e38)).toBe(true);
    await expect(replayStep(file)).rejects.toThrow(/vit_tiny|encoder/);
  });

  test("in float16, the gradient that overflows with the loss scale", async () => {
    const value = await readCheckpoint<{ state_dict: Map<string, Tensor>; failed_step: Record<string, unknown> }>(join(out, "failed_step_000004.pth.tar"), { tagFloats: true });
    const half = join(root, "half.pth.tar");
    torch.noGrad(() => value.state_dict.get(`module.${culprit}.weight`)!.fill_(0.01));
    Object.assign(value.failed_step, { precision: "fp16", scale: 2 ** 40 });
    await writeCheckpoint(half, value);
    Object.assign(value.failed_step, { scale: 1 });
    const sound = join(root, "sound.pth.tar");
    await writeCheckpoint(sound, value);
    disposeTensors(value);
    const { encoder } = tinyOptions;
    const { finding, loss, precision } = await replayStep(half, { encoder });
    expect([precision, Number.isFinite(loss)]).toEqual(["fp16", true]);
    // The contrast and the heads compute in float32. What comes into the encoder, in float16 inside, is finite, and already beyond 65504.
    expect(finding).toMatchObject({ pass: "backward", module: "base_encoder", kind: "VisionTransformer", inputs: [{ nan: 0, infinite: 0 }] });
    expect(finding!.inputs[0]!.max).toBeGreaterThan(65504);
    expect(finding!.output.infinite + finding!.output.nan).toBeGreaterThan(0);
    const again = await replayStep(sound, { encoder });
    expect([again.finding, again.update, Number.isFinite(again.gradientNorm)]).toEqual([null, false, true]);
  });

  test("a file without such a step is refused", async () => {
    const checkpoint = join(out, "checkpoint_0000.pth.tar");
    await expect(replayStep(checkpoint)).rejects.toThrow(ReplayError);
    await expect(replayStep(checkpoint)).rejects.toThrow(/holds no step to do again; give a failed_step/);
  });
});

test("the update that would overflow is told as such", async () => {
  const out = join(root, "update");
  const failure = await runTiny({ out, lr: 1e39, warmupEpochs: 0 }).then(() => null, (error: unknown) => error as NonFiniteError);
  const { finding, update, weightNorm } = await replayStep(failure!.replay!, { encoder: tinyOptions.encoder });
  expect([failure!.what, finding, update, weightNorm > 0]).toEqual(["update", null, true, true]);
});

test("without a folder nothing is written, and the message says so", async () => {
  const { error } = await overflow(undefined);
  expect(error.replay).toBeNull();
  expect(error.message).toContain("The batch is not saved, as the run has no folder; with --out it is");
});

/** A gradient that is infinite where the input is 0, behind a layer of weights. */
class Rooted extends Module {
  readonly first = this.child("first", new Linear(3, 4));
  readonly root = this.child("root", new Root());
  readonly last = this.child("last", new Linear(4, 1));

  forward(x: Tensor): Tensor {
    return this.last.forward(this.root.forward(this.first.forward(x)));
  }
}

class Root extends Module {
  forward(x: Tensor): Tensor {
    return torch.sqrt(x.mul(x));
  }
}

test("a gradient that becomes infinite is told with the module whose backward makes it so", () => {
  using network = new Rooted();
  torch.scope(() => {
    torch.noGrad(() => {
      network.first.weight.fill_(0);
      network.first.bias!.fill_(0);
    });
    const compute = (): Tensor => network.forward(torch.ones([2, 3])).sum();
    const forward = network.forward;
    // The root of 0 has an infinite slope, times the square's 0: not a number.
    expect(traceStep(network, compute)).toMatchObject({ pass: "backward", module: "root", kind: "Root", output: { shape: [2, 4], nan: 8 }, inputs: [{ nan: 0, infinite: 0 }] });
    expect(network.forward).toBe(forward);
    torch.noGrad(() => network.first.bias!.fill_(1));
    expect(traceStep(network, compute)).toBeNull();
    torch.noGrad(() => network.last.weight.fill_(Infinity));
    expect(traceStep(network, compute)).toMatchObject({ pass: "forward", module: "last", operator: "linear" });
    expect(network.parameters().every(({ grad }) => grad === null)).toBe(true);
  });
});
