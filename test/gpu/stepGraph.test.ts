/** `pretrain` with each step recorded as two CUDA graphs, against the same run launched kernel by kernel. */
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import type { ImageSource } from "../../lib/data/index.js";
import * as torch from "../../lib/torch/index.js";
import type { PretrainOptions } from "../../lib/train/pretrainOptions.js";
import { memorySource } from "../data/pixels.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { DroppingTransformer, tinyTransformer } from "../train/graphs/droppingTransformer.js";
import { runTiny, stateBytes } from "../train/tinyRun.js";
import { gpu, onGpu } from "./onGpu.js";

expectNoTensorsLeft();

const onDevice = { device: gpu, precision: "fp32", deterministic: true } satisfies Partial<PretrainOptions>;
const resnet = { encoder: "resnet18", arch: "resnet18", optimizer: "lars", imageSize: 32, lr: 0.1 } satisfies Partial<PretrainOptions>;
const labelled: ImageSource = { ...memorySource(25), classes: ["even", "odd", "third"], label: (index) => index % 3 };
const root = temporaryFolder("gpu-graph");
const long = 60_000 * 4;

interface Outcome {
  weights: Map<string, Uint8Array>;
  steps: unknown[];
  seconds: number;
}

async function outcome(changes: Partial<PretrainOptions>): Promise<Outcome> {
  let weights = new Map<string, Uint8Array>();
  const warnings: string[] = [];
  const onWarning = (text: string): unknown => /not as a CUDA graph/.test(text) && warnings.push(text);
  const { steps, result } = await runTiny({ ...onDevice, ...changes }, { onWarning }, (moco) => (weights = stateBytes(moco)));
  expect(warnings).toEqual([]);
  const told = steps.map(({ loss, gradientNorm, scale, signals, action }) => ({ loss, gradientNorm, scale, signals, action }));
  return { weights, steps: told, seconds: result.seconds };
}

/** Names of the tensors that differ. */
function differing(a: Outcome, b: Outcome): string[] {
  return [...a.weights].filter(([key, bytes]) => Buffer.compare(bytes, b.weights.get(key)!) !== 0).map(([key]) => key);
}

onGpu("a step as a CUDA graph", () => {
  test.each<[string, Partial<PretrainOptions>]>([
    ["a ViT in float32, 1,002 steps", { epochs: 334 }],
    ["a ViT in bfloat16, 1,002 steps", { epochs: 334, precision: "bf16" }],
    ["a ViT in float16, whose first steps overflow", { epochs: 60, precision: "fp16" }],
    ["a ViT that learns its patches, with LARS", { epochs: 60, optimizer: "lars", lr: 0.1 }],
    ["a ViT, augmented on the GPU", { epochs: 60, augment: "gpu", precision: "bf16" }],
    ["a ViT whose spikes are skipped", { epochs: 60, onSpike: "skip", spikeRatio: 1.02 }],
    ["a ViT whose spikes are rolled back", { epochs: 60, onSpike: "rollback", spikeRatio: 1.02, rollbackSteps: 2 }],
    ["a ViT that nobody watches, with clipped gradients", { epochs: 60, watch: false, clipGrad: 0.01 }],
    ["a ViT whose momentum stays as it is, judged by its neighbours", { epochs: 20, mCos: false, data: labelled, knnEvery: 4 }],
    ["a ViT that drops features", { epochs: 60, encoder: (numClasses) => new DroppingTransformer({ ...tinyTransformer, numClasses }) }],
    ["a ResNet in float32, 1,002 steps", { ...resnet, epochs: 334 }],
    ["a ResNet in float16", { ...resnet, epochs: 60, precision: "fp16" }],
    ["a ResNet, with clipped gradients", { ...resnet, epochs: 20, clipGrad: 0.01 }],
  ])("gives the bits of the step launched kernel by kernel: %s", async (_, changes) => {
    const [graph, eager] = [await outcome({ ...changes, cudaGraph: "on" }), await outcome(changes)];
    expect(graph.steps).toEqual(eager.steps);
    expect(differing(graph, eager)).toEqual([]);
    process.stderr.write(`${_}: ${eager.seconds.toFixed(2)} s kernel by kernel, ${graph.seconds.toFixed(2)} s as graphs\n`);
  }, long);

  test("stopped and resumed, it goes on with the bits of a run that was not", async () => {
    const [parts, whole] = [join(root, "parts"), join(root, "whole")];
    await outcome({ epochs: 8, out: parts, stopAfter: 11, cudaGraph: "on" });
    const resumed = await outcome({ epochs: 8, out: parts, resume: parts, seed: undefined, cudaGraph: "on" });
    expect(differing(resumed, await outcome({ epochs: 8, out: whole }))).toEqual([]);
  }, long);

  test("gives its memory back", async () => {
    await outcome({ epochs: 4, cudaGraph: "on" });
    const { allocated } = torch.deviceMemory(gpu);
    await outcome({ epochs: 4, cudaGraph: "on" });
    expect(torch.deviceMemory(gpu).allocated).toBe(allocated);
  });
});
