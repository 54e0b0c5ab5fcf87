import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { disposeTensors, readCheckpoint } from "../../lib/checkpoint/index.js";
import { ResNet, VisionTransformer } from "../../lib/models/index.js";
import { readRunLog } from "../../lib/report/index.js";
import * as torch from "../../lib/torch/index.js";
import { Tensor } from "../../lib/torch/index.js";
import { checkpointName, findCheckpoint, positionOf } from "../../lib/train/runs/checkpointFiles.js";
import { ResumeError } from "../../lib/train/runs/trainingState.js";
import { memorySource } from "../data/pixels.js";
import { fixturePath } from "../support/fixtures.js";
import { runPython, testPython } from "../support/python.js";
import { runTiny, stateBytes, tinyOptions } from "./tinyRun.js";

const tensorsBefore = torch.memory().tensors;
let root: string;
let whole: string;
let counter = 0;
const folder = (): string => join(root, `run-${counter++}`);
const last = "checkpoint_0001.pth.tar";

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "moco-resume-"));
  whole = folder();
  await runTiny({ out: whole });
});
afterAll(() => {
  rmSync(root, { recursive: true, force: true });
  expect(torch.memory().tensors).toBe(tensorsBefore);
});

describe("a run that was stopped and resumed ends with the same bytes", () => {
  test.each([[[1]], [[2, 1]], [[3]], [[1, 1, 1, 1, 1]], [[4]]])("stopped after %j steps", async (stops) => {
    const out = folder();
    let resume: string | undefined;
    for (const stopAfter of stops) {
      const { result } = await runTiny({ out, resume, stopAfter, seed: resume === undefined ? 7 : undefined });
      expect([result.reason, result.steps]).toEqual(["stop-after", stopAfter]);
      resume = out;
    }
    await runTiny({ out, resume, seed: undefined, workers: 2 });
    expect(readFileSync(join(out, last)).equals(readFileSync(join(whole, last)))).toBe(true);
    // Those in between were needed no longer.
    expect(readdirSync(out).sort()).toEqual(["checkpoint_0000.pth.tar", last, "last.pth.tar", "log.jsonl"]);
    const losses = (at: string): number[] => readRunLog(join(at, "log.jsonl")).steps.map(({ loss }) => loss);
    expect(losses(out)).toEqual(losses(whole));
  });

  test("with images that cannot be read, in the middle of an epoch", async () => {
    const data = memorySource(15, [3, 8]);
    const [one, two] = [folder(), folder()];
    await runTiny({ data, maxBad: 0.5, out: one });
    await runTiny({ data, maxBad: 0.5, out: two, stopAfter: 2 });
    await runTiny({ data, maxBad: 0.5, out: two, resume: two });
    expect(readFileSync(join(two, last)).equals(readFileSync(join(one, last)))).toBe(true);
  });

  test("from a checkpoint of a whole epoch, into another folder", async () => {
    const out = folder();
    await runTiny({ out, resume: join(whole, "checkpoint_0000.pth.tar") });
    expect(readFileSync(join(out, last)).equals(readFileSync(join(whole, last)))).toBe(true);
  });
});

test("an aborted signal lets the step end, and saves", async () => {
  const out = folder();
  const stop = new AbortController();
  const { result, steps } = await runTiny({ out }, { signal: stop.signal, onStep: ({ step }) => step === 1 && stop.abort("SIGTERM") });
  expect([result.reason, steps.length]).toEqual(["interrupted", 2]);
  expect(result.checkpoint).toBe(join(out, "checkpoint_0000_step_000002.pth.tar"));
  expect(findCheckpoint(out)).toBe(result.checkpoint);
  expect(readRunLog(join(out, "log.jsonl")).end).toMatchObject({ reason: "interrupted" });
});

test("saves every so many epochs or steps, and always at the end", async () => {
  const saved = async (changes: object): Promise<string[]> => {
    const out = folder();
    const paths: string[] = [];
    await runTiny({ out, epochs: 3, ...changes }, { onCheckpoint: (path) => void paths.push(path.slice(out.length + 1)) });
    return paths;
  };
  expect(await saved({ saveEveryEpochs: 2 })).toEqual(["checkpoint_0001.pth.tar", "checkpoint_0002.pth.tar"]);
  expect(await saved({ saveEveryEpochs: 9, saveEverySteps: 4 })).toEqual([
    "checkpoint_0001_step_000001.pth.tar", "checkpoint_0002_step_000002.pth.tar", "checkpoint_0002.pth.tar",
  ]);
});

describe("checkpoints", () => {
  test("have upstream's keys, and ours under one of its own", async () => {
    const value = await readCheckpoint<Record<string, never>>(join(whole, last));
    expect(Object.keys(value)).toEqual(["epoch", "arch", "state_dict", "optimizer", "scaler", "moco_v3_run"]);
    expect([value.epoch, value.arch]).toEqual([2, "vit_tiny"]);
    const keys = [...(value.state_dict as Map<string, Tensor>).keys()];
    expect(keys[0]).toBe("module.base_encoder.cls_token");
    expect(keys.some((key) => key.startsWith("module.momentum_encoder.head."))).toBe(true);
    expect(keys.at(-1)).toBe("module.predictor.4.num_batches_tracked");
    // That of a new scaler, though this run had none: upstream's refuses an empty one.
    expect(value.scaler).toEqual({ scale: 65536, growth_factor: 2, backoff_factor: 0.5, growth_interval: 2000, _growth_tracker: 0 });
    expect(value.moco_v3_run).toMatchObject({
      scaled: false, epoch: 2, step: 0, bad_images: [], facts: { seed: 7, images: 13, recipe: { encoder: { numHeads: 2 } } },
    });
    disposeTensors(value);
  });

  (testPython === null ? test.skip : test)("open with torch.load(weights_only=True), and the optimiser's state with torch.optim", () => {
    const found = runPython(
      `
import json, sys, torch
c = torch.load(sys.argv[1], weights_only=True)
sizes = [tuple(v.shape) for k, v in c["state_dict"].items() if not k.rsplit(".", 1)[-1].startswith(("running", "num_batches"))]
optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(s)) for s in sizes], 1.0)
optimizer.load_state_dict(c["optimizer"])
group = optimizer.param_groups[0]
steps = sorted({float(s["step"]) for s in optimizer.state.values()})
print(json.dumps([c["epoch"], c["arch"], group["weight_decay"], len(group["params"]) == len(sizes), steps]))
`,
      [join(whole, last)],
    );
    expect(found).toEqual([2, "vit_tiny", 0.1, true, [6]]);
  });

  test("are named after the epoch that was done last", () => {
    expect(checkpointName({ epoch: 1, step: 0 })).toBe("checkpoint_0000.pth.tar");
    expect(checkpointName({ epoch: 12345, step: 7 })).toBe("checkpoint_12345_step_000007.pth.tar");
    const positions = [{ epoch: 100, step: 0 }, { epoch: 0, step: 12 }];
    expect(positions.map((position) => positionOf(checkpointName(position)))).toEqual(positions);
    expect(positionOf("model_best.pth.tar")).toBeNull();
  });
});

describe("upstream's checkpoints are resumed at their epoch", () => {
  const vit = (options: object) => (numClasses: number) => new VisionTransformer({ patchSize: 8, numClasses, ...options });
  test.each([
    ["vitmini_adamw_zip", { arch: "vit_small", encoder: vit({ imageSize: 16, embedDim: 16, depth: 1, numHeads: 2 }) }],
    ["vitmini_adamw_cuda0_legacy", { arch: "vit_small", encoder: vit({ imageSize: 16, embedDim: 16, depth: 1, numHeads: 2 }) }],
    ["vitmini_adamw_torch17_zip", { arch: "vit_small", encoder: vit({ imageSize: 16, embedDim: 16, depth: 1, numHeads: 2 }) }],
    [
      "resnet_lars_zip",
      {
        arch: "resnet18", optimizer: "lars" as const, imageSize: 32,
        encoder: (numClasses: number) => new ResNet({ block: "basic", layers: [2, 2, 2, 2], width: 2, numClasses }),
      },
    ],
  ])("%s", async (name, changes) => {
    const resume = fixturePath(`checkpoints/${name}.pth.tar`);
    const saved = await readCheckpoint<{ epoch: number; state_dict: Map<string, Tensor> }>(resume);
    const starts: number[] = [];
    let untouched = 0;
    const { steps } = await runTiny({ ...changes, resume, epochs: 3, stopAfter: 1 }, {
      onStart: ({ firstStep }, moco) => {
        starts.push(firstStep);
        for (const [key, tensor] of moco.stateDict()) {
          if (torch.scope(() => torch.equal(tensor, saved.state_dict.get(`module.${key}`)!))) untouched++;
        }
      },
    });
    expect(starts).toEqual([saved.epoch * 3]);
    expect(untouched).toBe(saved.state_dict.size);
    expect(steps[0]).toMatchObject({ epoch: 2, stepInEpoch: 0 });
    disposeTensors(saved);
  });
});

describe("what does not fit is refused, or said", () => {
  let middle: string;
  beforeAll(async () => {
    middle = folder();
    await runTiny({ out: middle, stopAfter: 1 });
  });

  test("another architecture", async () => {
    await expect(runTiny({ resume: whole, arch: "vit_large" })).rejects.toThrow(ResumeError);
    await expect(runTiny({ resume: whole, arch: "vit_large" })).rejects.toThrow(/vit_tiny.*vit_large.*--arch vit_tiny/s);
  });

  test.each([
    ["batch size", { batchSize: 3 }, /batchSize is 3 and was 4/],
    ["images", { data: memorySource(14) }, /images is 14 and was 13/],
    ["seed", { seed: 8 }, /seed is 8 and was 7/],
  ])("another %s in the middle of an epoch", async (_, changes, message) => {
    await expect(runTiny({ resume: middle, ...changes })).rejects.toThrow(message);
  });

  test("other options are told", async () => {
    const warnings: string[] = [];
    await runTiny({ resume: join(whole, "checkpoint_0000.pth.tar"), lr: 2e-3, weightDecay: 0.2, batchSize: 3, stopAfter: 1 }, {
      onWarning: (message) => void warnings.push(message),
    });
    expect(warnings.map((each) => each.replace(/^.*?: /, "")).sort()).toEqual([
      "batchSize is 3 and was 4",
      "lr is 0.002 and was 0.001",
      "stepsPerEpoch is 4 and was 3",
      "weightDecay is 0.2 and was 0.1, which the saved optimiser keeps",
    ]);
  });

  test("a run that is done", async () => {
    const warnings: string[] = [];
    const { result } = await runTiny({ resume: whole }, { onWarning: (message) => void warnings.push(message) });
    expect([result.reason, result.steps, result.loss]).toEqual(["finished", 0, null]);
    expect(warnings).toEqual([expect.stringContaining("nothing is left to do")]);
  });

  test("a file that is no pre-training checkpoint", async () => {
    await expect(runTiny({ resume: fixturePath("checkpoints/odd_zip.pth.tar") })).rejects.toThrow(/no training can go on/);
    await expect(runTiny({ resume: root })).rejects.toThrow(/has no checkpoint_/);
  });
});

test("the network after resuming holds the saved values", async () => {
  let before = new Map<string, Uint8Array>();
  await runTiny({ resume: whole }, {}, (moco) => (before = stateBytes(moco)));
  let after = new Map<string, Uint8Array>();
  await runTiny({ ...tinyOptions }, {}, (moco) => (after = stateBytes(moco)));
  expect(before).toEqual(after);
});
