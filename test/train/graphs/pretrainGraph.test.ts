/** `pretrain` with its steps recorded, on a stub of CUDA graphs, against the same run step by step: every bit, every signal, every choice. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, jest, test } from "@jest/globals";
import type { StepEntry } from "../../../lib/report/index.js";
import type { PretrainOptions } from "../../../lib/train/pretrainOptions.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { StubRecorder } from "./stubRecorder.js";

expectNoTensorsLeft();

// The loop asks for a recorder as usual, and gets the stub.
let stub: StubRecorder | null = null;
const recorders = await import("../../../lib/train/graphs/stepRecorder.js");
jest.unstable_mockModule("../../../lib/train/graphs/stepRecorder.js", () => ({ ...recorders, stepRecorder: () => stub }));
const { runTiny, stateBytes } = await import("../tinyRun.js");

const root = temporaryFolder("graph");
const resnet = { encoder: "resnet18", arch: "resnet18", optimizer: "lars", imageSize: 32, lr: 0.1 } satisfies Partial<PretrainOptions>;

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

function expectEqual(recorded: Outcome, plain: Outcome): void {
  expect(recorded.steps).toEqual(plain.steps);
  expect(recorded.warnings).toEqual(plain.warnings);
  expect(recorded.weights).toEqual(plain.weights);
}

describe("a run whose steps are recorded is the run step by step", () => {
  test.each<[string, Partial<PretrainOptions>]>([
    ["a ViT, 1,002 steps", { epochs: 334 }],
    ["a ResNet, whose BatchNorm has statistics", { ...resnet, epochs: 2 }],
    ["clipped gradients, nothing watched", { epochs: 4, clipGrad: 0.01, watch: false }],
  ])("%s", async (_, changes) => {
    const [recorded, plain] = [await graphed(changes), await outcome(changes)];
    const count = plain.steps.length;
    expect(recorded.events).toEqual([
      ...Array.from({ length: 3 }, () => "as it is"), "record", ...Array.from({ length: count - 3 }, () => "replay"), "dispose",
    ]);
    if (changes.watch !== false) expect((plain.steps as StepEntry[]).every(({ signals }) => signals?.contrast !== undefined)).toBe(true);
    expectEqual(recorded, plain);
  });

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
    await graphed({ epochs: 4, out: parts, stopAfter: 5 });
    const resumed = await graphed({ epochs: 4, out: parts, resume: parts, seed: undefined });
    const plain = await outcome({ epochs: 4, out: whole });
    expect(resumed.events.slice(0, 5)).toEqual(["as it is", "as it is", "as it is", "record", "replay"]);
    expect(resumed.weights).toEqual(plain.weights);
    const last = "checkpoint_0003.pth.tar";
    expect(readFileSync(join(parts, last)).equals(readFileSync(join(whole, last)))).toBe(true);
  });

  test("what cannot be recorded: one warning, and the same run", async () => {
    const plain = await outcome({});
    const failed = await outcome({}, (recorder) => (recorder.failure = new Error("operation not permitted")));
    expect(failed.events).toEqual(["as it is", "as it is", "as it is", "record"]);
    expect(failed.warnings).toEqual([expect.stringMatching(/kernel by kernel, not as a CUDA graph.*operation not permitted/)]);
    expectEqual({ ...failed, warnings: [] }, plain);
  });
});
