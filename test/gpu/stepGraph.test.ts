/** `pretrain` with each step recorded as a CUDA graph, against the same run launched kernel by kernel. */
import { describe, expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import type { PretrainOptions } from "../../lib/train/pretrainOptions.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { runTiny, stateBytes } from "../train/tinyRun.js";
import { gpu, onGpu } from "./onGpu.js";

expectNoTensorsLeft();

const onDevice = { device: gpu, precision: "fp32", deterministic: true } satisfies Partial<PretrainOptions>;
const resnet = { encoder: "resnet18", arch: "resnet18", optimizer: "lars", imageSize: 32, lr: 0.1 } satisfies Partial<PretrainOptions>;
const long = 60_000 * 4;

interface Outcome {
  weights: Map<string, Uint8Array>;
  losses: number[];
  norms: (number | null)[];
  scales: number[];
  seconds: number;
}

async function outcome(changes: Partial<PretrainOptions>): Promise<Outcome> {
  let weights = new Map<string, Uint8Array>();
  const warnings: string[] = [];
  const { steps, result } = await runTiny({ ...onDevice, ...changes }, { onWarning: (text) => warnings.push(text) }, (moco) => (weights = stateBytes(moco)));
  expect(warnings).toEqual([]);
  return {
    weights, losses: steps.map(({ loss }) => loss), norms: steps.map(({ gradientNorm }) => gradientNorm), scales: steps.map(({ scale }) => scale),
    seconds: result.seconds,
  };
}

onGpu("a step as a CUDA graph", () => {
  test.each<[string, Partial<PretrainOptions>]>([
    ["a ViT in float32, 1,002 steps", { epochs: 334 }],
    ["a ViT in bfloat16, 1,002 steps", { epochs: 334, precision: "bf16" }],
    ["a ViT in float16, whose first steps overflow", { epochs: 60, precision: "fp16" }],
    ["a ViT that learns its patches, with LARS", { epochs: 60, optimizer: "lars", lr: 0.1 }],
    ["a ViT, augmented on the GPU", { epochs: 60, augment: "gpu", precision: "bf16" }],
    ["a ResNet in float32", { ...resnet, epochs: 60 }],
    ["a ResNet in float16", { ...resnet, epochs: 60, precision: "fp16" }],
  ])("gives the bits of the step launched kernel by kernel: %s", async (_, changes) => {
    const [graph, eager] = [await outcome({ ...changes, cudaGraph: true }), await outcome(changes)];
    expect(graph.losses).toEqual(eager.losses);
    expect(graph.norms).toEqual(eager.norms);
    expect(graph.scales).toEqual(eager.scales);
    expect(graph.weights).toEqual(eager.weights);
    process.stderr.write(`${_}: ${eager.seconds.toFixed(2)} s kernel by kernel, ${graph.seconds.toFixed(2)} s as graphs\n`);
  }, long);

  test("gives its memory back", async () => {
    await outcome({ epochs: 4, cudaGraph: true });
    const { allocated } = torch.deviceMemory(gpu);
    await outcome({ epochs: 4, cudaGraph: true });
    expect(torch.deviceMemory(gpu).allocated).toBe(allocated);
  });
});

onGpu("a graph", () => {
  test("reads and writes the memory it was recorded with, and goes on with random numbers", () => {
    torch.scope(() => {
      const x = torch.ones([4], { device: gpu });
      torch.manualSeed(5);
      const eager = [0, 1].map(() => torch.rand([4], { device: gpu }).add(x).toArray());
      using graph = torch.recordGraph(gpu, () => [torch.rand([4], { device: gpu }).add(x)]);
      torch.manualSeed(5);
      const replayed = [0, 1].map(() => {
        graph.replay();
        return graph.outputs[0]!.toArray();
      });
      expect(replayed).toEqual(eager);
      x.fill_(10);
      graph.replay();
      expect(graph.outputs[0]!.min().item()).toBeGreaterThanOrEqual(10);
    });
  });

  describe("that reads a value while it is recorded", () => {
    test("fails, and what comes after works", () => {
      torch.scope(() => {
        const x = torch.ones([4], { device: gpu });
        expect(() => torch.recordGraph(gpu, () => [x.mul(x.sum().item())])).toThrow();
        expect(x.sum().item()).toBe(4);
        using graph = torch.recordGraph(gpu, () => [x.mul(2)]);
        graph.replay();
        expect(graph.outputs[0]!.sum().item()).toBe(8);
        expect(() => {
          using again = torch.recordGraph(gpu, () => {
            throw new Error("of the caller");
          });
          again.replay();
        }).toThrow("of the caller");
        expect(x.sum().item()).toBe(4);
      });
    });
  });

});
