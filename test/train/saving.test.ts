import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { writeCheckpoint } from "../../lib/checkpoint/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import { readRunLog } from "../../lib/report/index.js";
import * as torch from "../../lib/torch/index.js";
import { CheckpointSaveError } from "../../lib/train/runs/checkpointFolder.js";
import { InitialWeightsError } from "../../lib/train/initialWeights.js";
import { runTiny, stateBytes, tinyOptions } from "./tinyRun.js";

const tensorsBefore = torch.memory().tensors;
let root: string;
let counter = 0;
const folder = (): string => join(root, `run-${counter++}`);

beforeAll(() => void (root = mkdtempSync(join(tmpdir(), "moco-saving-"))));
afterAll(() => {
  rmSync(root, { recursive: true, force: true });
  expect(torch.memory().tensors).toBe(tensorsBefore);
});

const checkpoints = (out: string): string[] => readdirSync(out).filter((name) => name.startsWith("checkpoint_")).sort();

test("in the background the same files are written as while the training waits", async () => {
  const [background, waiting] = [folder(), folder()];
  await runTiny({ out: background, saveEverySteps: 1 });
  await runTiny({ out: waiting, saveEverySteps: 1, saveInBackground: false });
  expect(checkpoints(background)).toEqual(["checkpoint_0000.pth.tar", "checkpoint_0001.pth.tar"]);
  for (const name of checkpoints(background)) {
    expect(readFileSync(join(background, name)).equals(readFileSync(join(waiting, name)))).toBe(true);
  }
  for (const out of [background, waiting]) {
    expect(readlinkSync(join(out, "last.pth.tar"))).toBe("checkpoint_0001.pth.tar");
    const saves = readRunLog(join(out, "log.jsonl")).checkpoints;
    expect(saves.map(({ steps }) => steps)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(saves.every(({ stallMs, totalMs }) => stallMs > 0 && stallMs <= totalMs)).toBe(true);
  }
});

test("keep and keepEvery say which checkpoints stay", async () => {
  const left = async (changes: object): Promise<string[]> => {
    const out = folder();
    await runTiny({ out, epochs: 5, ...changes });
    return checkpoints(out).map((name) => name.slice("checkpoint_000".length, -".pth.tar".length));
  };
  expect(await left({ keep: 2 })).toEqual(["3", "4"]);
  expect(await left({ keep: 1, keepEvery: 2 })).toEqual(["1", "3", "4"]);
  await expect(runTiny({ keep: 0 })).rejects.toThrow("keep is 0; give a whole number of at least 1");
});

test("a checkpoint that cannot be written ends the run, and what is there stays", async () => {
  const out = folder();
  let failure: unknown;
  const steps: number[] = [];
  await runTiny({ out, epochs: 4 }, {
    onStart: () => void mkdirSync(join(out, "checkpoint_0001.pth.tar", "in the way"), { recursive: true }),
    onStep: ({ step }) => void steps.push(step),
  }).catch((error: unknown) => (failure = error));
  expect(failure).toBeInstanceOf(CheckpointSaveError);
  expect((failure as Error).message).toMatch(/checkpoint_0001\.pth\.tar: it cannot be written.*checkpoint_0000\.pth\.tar is complete/s);
  // It is written while the third epoch runs, and the next save would have to wait for it.
  expect(steps.length).toBeLessThanOrEqual(9);
  expect(readlinkSync(join(out, "last.pth.tar"))).toBe("checkpoint_0000.pth.tar");
  expect(readdirSync(out).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  expect(readRunLog(join(out, "log.jsonl")).end).toMatchObject({ reason: "failed" });
  expect(existsSync(join(out, "checkpoint_0002.pth.tar"))).toBe(false);
});

describe("init begins with the encoder in another file", () => {
  test("of our own pre-training: both encoders have its weights, the heads are new", async () => {
    const out = folder();
    let trained = new Map<string, Uint8Array>();
    await runTiny({ out }, {}, (moco) => void (trained = stateBytes(moco)));
    let first = new Map<string, Uint8Array>();
    const { result } = await runTiny({ init: out, seed: 8, stopAfter: 1 }, { onStart: (_, moco) => void (first = stateBytes(moco)) });
    expect(result.steps).toBe(1);
    const backbone = [...first.keys()].filter((key) => !/head\.|^predictor\./.test(key));
    expect(backbone.length).toBeGreaterThan(50);
    for (const key of backbone) {
      const donor = key.replace("momentum_encoder.", "base_encoder.");
      expect([key, Buffer.from(first.get(key)!).equals(trained.get(donor)!)]).toEqual([key, true]);
    }
    expect(Buffer.from(first.get("predictor.0.weight")!).equals(trained.get("predictor.0.weight")!)).toBe(false);
  });

  test("but not one with other attention heads, nor together with resume", async () => {
    const out = folder();
    await runTiny({ out });
    const encoder = (numClasses: number): VisionTransformer =>
      new VisionTransformer({ imageSize: 16, patchSize: 8, embedDim: 16, depth: 2, numHeads: 4, numClasses });
    await expect(runTiny({ encoder, init: out })).rejects.toThrow(InitialWeightsError);
    await expect(runTiny({ encoder, init: out })).rejects.toThrow(/has 2 attention heads and this training's encoder 4/);
    await expect(runTiny({ init: out, resume: out })).rejects.toThrow(/init begins a new run and resume goes on/);
  });

  test("learned positions are told of, and stay", async () => {
    const encoder = tinyOptions.encoder(0);
    torch.noGrad(() => encoder.posEmbed.add_(0.25));
    const path = join(root, "timm.pth");
    await writeCheckpoint(path, encoder.stateDict());
    encoder.dispose();
    const warnings: string[] = [];
    await runTiny({ init: path, stopAfter: 1 }, { onWarning: (message) => void warnings.push(message) }, (moco) => {
      const state = moco.stateDict();
      expect(torch.scope(() => state.get("base_encoder.pos_embed")!.select(1, 0).max().item())).toBeCloseTo(0.25, 6);
    });
    expect(warnings).toContainEqual(expect.stringMatching(/learned positions of .*timm\.pth stay as they are/));
  });
});
