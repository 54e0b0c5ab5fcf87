/** Pre-training in chunks: the same training, stopped in the middle of a step or not. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { VisionTransformer } from "../../lib/models/index.js";
import { readRunLog } from "../../lib/report/index.js";
import { findCheckpoint } from "../../lib/train/runs/checkpointFiles.js";
import { resolveOptions } from "../../lib/train/pretrainOptions.js";
import { maxAbsolute, numbers } from "../support/digest.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { runTiny, stateBytes, tinyOptions, tinyStepsPerEpoch } from "./tinyRun.js";

expectNoTensorsLeft();
let root: string;
let counter = 0;
const folder = (): string => join(root, `run-${counter++}`);
const last = "checkpoint_0001.pth.tar";
const microBatch = 3; // of 4: a chunk, and one of a single image

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "moco-micro-"));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** A wish to stop that comes when a run looks for the n-th time. */
function wishAt(look: number): AbortSignal {
  let looks = 0;
  return Object.defineProperty(new EventTarget(), "aborted", { get: () => looks++ >= look }) as AbortSignal;
}

/** Times that a step asks in its middle: after each chunk's features, keys, loss, its backward pass, each chunk's gradients. */
const looksInside = 2 + 3 + 2;
/** Times before a step, about the wait for its images. */
const looksBefore = 2;

test("a run in chunks is the run, to within rounding", async () => {
  const states: Map<string, Float64Array>[] = [];
  const losses: number[][] = [];
  for (const changes of [{}, { microBatch }]) {
    const { steps } = await runTiny(changes, {}, (moco) => {
      states.push(new Map([...moco.stateDict()].map(([key, tensor]) => [key, numbers(tensor)])));
    });
    losses.push(steps.map(({ loss }) => loss));
  }
  expect(losses[0]).toHaveLength(2 * tinyStepsPerEpoch);
  expect(maxAbsolute(losses[1]!, losses[0]!)).toBeLessThan(1e-4);
  for (const [key, values] of states[0]!) {
    // A bias before BatchNorm or softmax has a gradient of rounding alone, of which AdamW makes steps.
    const tolerance = /qkv\.bias|norm\.bias|running_mean/.test(key) ? 1e-2 : 2e-3;
    expect([key, maxAbsolute(states[1]!.get(key)!, values) < tolerance]).toEqual([key, true]);
  }
});

test("a chunk as large as the batch is the whole batch, to the bit", async () => {
  const states: Map<string, Uint8Array>[] = [];
  for (const changes of [{}, { microBatch: 4 }]) await runTiny({ stopAfter: 2, ...changes }, {}, (moco) => states.push(stateBytes(moco)));
  expect(states[1]).toEqual(states[0]);
});

describe("a wish to stop in the middle of a step", () => {
  test("abandons it at any place, and the run that goes on ends with the same bytes", async () => {
    const whole = folder();
    await runTiny({ out: whole, microBatch });
    const out = folder();
    // Each run does one step and is abandoned in the next one, at another place each time; the last has nothing left to abandon.
    for (let run = 0; run < 2 * tinyStepsPerEpoch; run++) {
      const resume = run === 0 ? undefined : out;
      const { result } = await runTiny({ out, resume, microBatch, seed: resume === undefined ? 7 : undefined }, { signal: wishAt(looksBefore + looksInside + 1 + looksBefore + run) });
      const left = 2 * tinyStepsPerEpoch - 1 - run;
      expect([result.reason, result.steps]).toEqual([left === 0 ? "finished" : "interrupted", 1]);
    }
    expect(readFileSync(join(out, last)).equals(readFileSync(join(whole, last)))).toBe(true);
    const losses = (at: string): number[] => readRunLog(join(at, "log.jsonl")).steps.map(({ loss }) => loss);
    expect(losses(out)).toEqual(losses(whole));
  });

  test("in the first step of all, it saves the beginning", async () => {
    const [out, whole] = [folder(), folder()];
    const { result } = await runTiny({ out, microBatch }, { signal: wishAt(looksBefore + 3) });
    expect(result).toMatchObject({ reason: "interrupted", steps: 0, loss: null, checkpoint: findCheckpoint(out) });
    await runTiny({ out, resume: out, seed: undefined, microBatch });
    await runTiny({ out: whole, microBatch });
    expect(readFileSync(join(out, last)).equals(readFileSync(join(whole, last)))).toBe(true);
  });
});

test("an encoder with BatchNorm over images is trained with a warning, a ViT without", async () => {
  const warned = async (encoder: (numClasses: number) => VisionTransformer): Promise<string[]> => {
    const warnings: string[] = [];
    await runTiny({ encoder, imageSize: 32, microBatch, stopAfter: 1 }, { onWarning: (message) => warnings.push(message) });
    return warnings;
  };
  const vit = (stem: "patch" | "conv") => (numClasses: number) =>
    new VisionTransformer({ imageSize: 32, patchSize: 16, embedDim: 16, depth: 1, numHeads: 2, numClasses, stem });
  expect(await warned(vit("patch"))).toEqual([]);
  expect(await warned(vit("conv"))).toEqual([expect.stringMatching(/BatchNorm in its convolutional stem takes its statistics from 3 images at a time.*docs\/memory\.md/)]);
});

test("values that microBatch cannot have", () => {
  for (const value of [0, -4, 1.5, NaN]) {
    expect(() => resolveOptions({ ...tinyOptions, microBatch: value })).toThrow(`microBatch is ${value}; give a whole number of at least 1`);
  }
  expect(resolveOptions(tinyOptions).microBatch).toBeNull();
  expect(resolveOptions({ ...tinyOptions, microBatch: 64 }).microBatch).toBe(64);
});
