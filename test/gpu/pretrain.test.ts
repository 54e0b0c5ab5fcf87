/** `pretrain` from images to checkpoints on a GPU. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { readCheckpoint } from "../../lib/checkpoint/index.js";
import * as torch from "../../lib/torch/index.js";
import { Tensor } from "../../lib/torch/index.js";
import type { PretrainOptions } from "../../lib/train/pretrainOptions.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { runTiny, stateBytes } from "../train/tinyRun.js";
import { gpu, onGpu } from "./onGpu.js";

expectNoTensorsLeft();

const root = temporaryFolder("gpu");
let counter = 0;
const folder = (): string => join(root, `run-${counter++}`);
const last = "checkpoint_0001.pth.tar";
const onDevice = { device: gpu, precision: "fp32", deterministic: true } satisfies Partial<PretrainOptions>;
const resnet = { encoder: "resnet18", arch: "resnet18", optimizer: "lars", imageSize: 32, lr: 0.1 } satisfies Partial<PretrainOptions>;

function disposeAll(value: unknown): void {
  if (value instanceof Tensor) value.dispose();
  else if (value instanceof Map) for (const each of value.values()) disposeAll(each);
  else if (typeof value === "object" && value !== null) for (const each of Object.values(value)) disposeAll(each);
}

/** The network's bytes in a checkpoint. */
async function savedBytes(path: string): Promise<Map<string, Uint8Array>> {
  const checkpoint = (await readCheckpoint(path)) as unknown as { state_dict: Map<string, Tensor> };
  const bytes = new Map([...checkpoint.state_dict].map(([key, tensor]) => [key.replace(/^module\./, ""), tensor.bytes()]));
  disposeAll(checkpoint);
  return bytes;
}

onGpu("pretrain on a GPU", () => {
  test("the first GPU is the default, a ViT in bfloat16 where it has that", async () => {
    let device = "";
    await runTiny({ device: undefined, stopAfter: 1 }, { onStart: (run) => {
      device = run.device;
      expect(run.options).toMatchObject({ encoder: "vit_tiny", precision: torch.deviceProperties(gpu).bfloat16 ? "bf16" : "fp16" });
    } });
    expect(device).toBe("cuda:0");
  });

  test("in float32 it goes the CPU's way", async () => {
    torch.setBackendFlags({ tf32: false });
    const [cpu, cuda] = [await runTiny(), await runTiny(onDevice)];
    const differences = cuda.steps.map(({ loss }, i) => Math.abs(loss / cpu.steps[i]!.loss - 1));
    expect(differences[0]).toBeLessThan(1e-5);
    // A batch of four magnifies roundings in each BatchNorm.
    expect(Math.max(...differences)).toBeLessThan(2e-2);
    expect(cuda.steps[0]!.gradientNorm! / cpu.steps[0]!.gradientNorm!).toBeCloseTo(1, 3);
  });

  test.each<[string, Partial<PretrainOptions>]>([
    ["a ViT in float32", {}],
    ["a ViT in bfloat16", { precision: "bf16" }],
    ["a ViT in float16, whose first steps overflow", { precision: "fp16" }],
    ["a ViT, augmented on the GPU", { precision: "bf16", augment: "gpu" }],
    ["a ResNet in float32", resnet],
    ["a ResNet in bfloat16", { ...resnet, precision: "bf16" }],
  ])("deterministic, a run repeats itself, stopped and resumed or not: %s", async (_, changes) => {
    const [whole, again, parts] = [folder(), folder(), folder()];
    await runTiny({ ...onDevice, ...changes, out: whole });
    await runTiny({ ...onDevice, ...changes, out: again });
    await runTiny({ ...onDevice, ...changes, out: parts, stopAfter: 2 });
    await runTiny({ ...onDevice, ...changes, out: parts, resume: parts, seed: undefined, workers: 2 });
    const file = (of: string): Buffer => readFileSync(join(of, last));
    expect(file(again).equals(file(whole))).toBe(true);
    expect(file(parts).equals(file(whole))).toBe(true);
  });

  test("augmentation on the GPU gives the weights that augmentation on the CPU gives", async () => {
    const weights: Map<string, Uint8Array>[] = [];
    for (const augment of ["cpu", "gpu"] as const) await runTiny({ ...onDevice, augment }, {}, (moco) => weights.push(stateBytes(moco)));
    expect(weights[1]).toEqual(weights[0]);
  });

  test("its checkpoints hold the weights to the bit and open without a GPU; those of a CPU go on on a GPU", async () => {
    const fromGpu = folder();
    let weights = new Map<string, Uint8Array>();
    await runTiny({ ...onDevice, out: fromGpu, epochs: 1 }, {}, (moco) => (weights = stateBytes(moco)));
    expect(await savedBytes(join(fromGpu, "checkpoint_0000.pth.tar"))).toEqual(weights);
    const text = readFileSync(join(fromGpu, "checkpoint_0000.pth.tar")).toString("latin1");
    expect(text).not.toContain("cuda:0\x00"); // no storage names the GPU

    const { steps } = await runTiny({ device: "cpu", precision: "fp32", out: fromGpu, resume: fromGpu, epochs: 2 });
    expect(steps.map(({ step }) => step)).toEqual([3, 4, 5]);

    const fromCpu = folder();
    await runTiny({ out: fromCpu, stopAfter: 2 });
    const onGpu = await runTiny({ ...onDevice, out: fromCpu, resume: fromCpu });
    const onCpu = await runTiny();
    expect(onGpu.steps.map(({ step }) => step)).toEqual([2, 3, 4, 5]);
    expect(Math.abs(onGpu.steps[0]!.loss / onCpu.steps[2]!.loss - 1)).toBeLessThan(1e-4);
  });

  test("all memory is given back: a second run needs no more", async () => {
    await runTiny({ ...onDevice, precision: "bf16" }); // libraries keep workspaces
    const { allocated } = torch.deviceMemory(gpu);
    await runTiny({ ...onDevice, precision: "bf16" });
    expect(torch.deviceMemory(gpu).allocated).toBe(allocated);
  });
});
