/** `pretrain` with its steps recorded, on a stub of CUDA graphs, against the same run step by step: every bit, every signal, every choice. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, jest, test } from "@jest/globals";
import type { ImageSource } from "../../../lib/data/index.js";
import { ResNet } from "../../../lib/models/index.js";
import type { Optimizer } from "../../../lib/optim/index.js";
import type { StepEntry } from "../../../lib/report/index.js";
import type { StepGraphOptions } from "../../../lib/train/graphs/stepGraph.js";
import type { PretrainOptions } from "../../../lib/train/pretrainOptions.js";
import { memorySource } from "../../data/pixels.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { DroppingTransformer, tinyTransformer } from "./droppingTransformer.js";
import { StubRecorder } from "./stubRecorder.js";

expectNoTensorsLeft();

// The loop trains as on a GPU, rate and momentum in the device's memory, and its steps are recorded by the stub.
let stub: StubRecorder | null = null;
jest.unstable_mockModule("../../../lib/train/graphs/ratesOnDevice.js", () => ({ ratesOnDevice: () => true }));
const { StepGraph } = await import("../../../lib/train/graphs/stepGraph.js");
class StubbedGraph extends StepGraph {
  constructor(optimizer: Optimizer, options: StepGraphOptions) {
    super(optimizer, { ...options, recorder: stub });
    if (stub) stub.optimizer = optimizer;
  }
}
jest.unstable_mockModule("../../../lib/train/graphs/stepGraph.js", () => ({ StepGraph: StubbedGraph }));
const { runTiny, stateBytes } = await import("../tinyRun.js");

const root = temporaryFolder("graph");
const resnet = {
  encoder: (numClasses) => new ResNet({ block: "basic", layers: [1, 1, 1, 1], width: 4, numClasses, zeroInitResidual: true }),
  arch: "resnet_tiny", optimizer: "lars", imageSize: 32, lr: 0.1,
} satisfies Partial<PretrainOptions>;
const labelled: ImageSource = { ...memorySource(25), classes: ["even", "odd", "third"], label: (index) => index % 3 };

interface Outcome {
  /** Digest of each tensor. */
  weights: Map<string, string>;
  /** All that is logged of the steps but for times. */
  steps: unknown[];
  warnings: string[];
  events: string[];
}

const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** @param arrange null: step by step */
async function outcome(changes: Partial<PretrainOptions>, arrange: ((stub: StubRecorder) => void) | null = null): Promise<Outcome> {
  const recorder = arrange === null ? null : new StubRecorder();
  if (recorder) arrange!(recorder);
  stub = recorder;
  let weights = new Map<string, string>();
  const warnings: string[] = [];
  const { steps } = await runTiny(changes, {
    onStart: (_, moco) => {
      if (recorder) recorder.network = moco;
    },
    onWarning: (text) => warnings.push(text),
  }, (moco) => (weights = new Map([...stateBytes(moco)].map(([key, bytes]) => [key, digest(bytes)]))));
  const timeless = steps.map((step) => Object.fromEntries(Object.entries(step).filter(([key]) => !/Ms$|PerSecond|time|seconds/i.test(key))));
  return { weights, steps: timeless, warnings, events: recorder?.events ?? [] };
}

const graphed = (changes: Partial<PretrainOptions>): Promise<Outcome> => outcome(changes, () => undefined);

const asItIs = Array.from({ length: 6 }, () => "as it is");
/** Up to the step of which both parts are recorded. */
const beginning = [...asItIs, "record", "replay", "as it is", "replay", "as it is", "replay", "as it is", "replay", "record"];

function expectEqual(recorded: Outcome, plain: Outcome): void {
  expect(recorded.steps).toEqual(plain.steps);
  expect(recorded.warnings).toEqual(plain.warnings);
  expect(recorded.weights).toEqual(plain.weights);
}

describe("a run whose steps are recorded is the run step by step", () => {
  test.each<[string, Partial<PretrainOptions>]>([
    ["a ViT, 1,002 steps", { epochs: 334 }],
    ["a ResNet, whose BatchNorm has statistics", { ...resnet, epochs: 10 }],
    ["an encoder that draws random numbers", { epochs: 4, encoder: (numClasses) => new DroppingTransformer({ ...tinyTransformer, numClasses }) }],
    ["judged by its neighbours in between", { epochs: 4, knnEvery: 1, data: labelled }],
    ["clipped gradients, nothing watched", { epochs: 4, clipGrad: 0.01, watch: false }],
  ])("%s", async (_, changes) => {
    const [recorded, plain] = [await graphed(changes), await outcome(changes)];
    const count = plain.steps.length;
    const launches = Array.from({ length: 2 * (count - 6) - 1 }, () => "replay");
    expect(recorded.events).toEqual([...beginning, ...launches, "dispose", "dispose"]);
    if (changes.watch !== false) expect((plain.steps as StepEntry[]).every(({ signals }) => signals?.contrast !== undefined)).toBe(true);
    expectEqual(recorded, plain);
  }, 240_000);

  test("spikes that are skipped or rolled back", async () => {
    for (const onSpike of ["skip", "rollback"] as const) {
      // A little more than usual is a spike, once the detector knows what is usual.
      const changes = { epochs: 12, onSpike, spikeRatio: 1.02, rollbackSteps: 2 } satisfies Partial<PretrainOptions>;
      const [recorded, plain] = [await graphed(changes), await outcome(changes)];
      expect((plain.steps as StepEntry[]).some(({ action }) => action !== undefined)).toBe(true);
      expectEqual(recorded, plain);
    }
  });

  test("stopped and resumed, it records anew", async () => {
    const [parts, whole] = [join(root, "parts"), join(root, "whole")];
    await graphed({ epochs: 6, out: parts, stopAfter: 8 });
    const resumed = await graphed({ epochs: 6, out: parts, resume: parts, seed: undefined });
    const plain = await outcome({ epochs: 6, out: whole });
    expect(resumed.events.slice(0, beginning.length)).toEqual(beginning);
    expect(resumed.weights).toEqual(plain.weights);
    const last = "checkpoint_0005.pth.tar";
    expect(readFileSync(join(parts, last)).equals(readFileSync(join(whole, last)))).toBe(true);
  });

  test("what cannot be recorded: one warning, and the same run", async () => {
    const plain = await outcome({});
    const failed = await outcome({}, (recorder) => (recorder.failure = { at: 0, error: new Error("operation not permitted") }));
    expect(failed.events.slice(0, 7)).toEqual([...asItIs, "record"]);
    expect(failed.warnings).toEqual([expect.stringMatching(/kernel by kernel, not as a CUDA graph.*operation not permitted/)]);
    expectEqual({ ...failed, warnings: [] }, plain);
    const half = await outcome({ epochs: 4 }, (recorder) => (recorder.failure = { at: 1, error: new Error("out of memory") }));
    expect(half.warnings).toEqual([expect.stringMatching(/^the optimiser's update is launched kernel by kernel.*out of memory/)]);
    expectEqual({ ...half, warnings: [] }, await outcome({ epochs: 4 }));
  });
});
