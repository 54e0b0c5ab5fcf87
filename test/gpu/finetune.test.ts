/** `finetune` on a GPU. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import type { FinetuneOptions } from "../../lib/train/finetuning/finetuneOptions.js";
import { evaluateFinetuned } from "../../lib/train/finetuning/evaluateFinetuned.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { quickOptions, runFinetune, writeFinetuneFiles } from "../train/finetuneRun.js";
import { gpu, onGpu } from "./onGpu.js";

expectNoTensorsLeft();
const root = temporaryFolder("gpu-finetune");
let counter = 0;
const folder = (): string => join(root, `run-${counter++}`);
let options: FinetuneOptions;

beforeAll(async () => {
  options = { ...(await writeFinetuneFiles(root, 250)), device: gpu, deterministic: true, dropPath: 0.3, averageDecay: 0.9 };
});

onGpu("finetune on a GPU", () => {
  test("in float32 it goes the CPU's way", async () => {
    const plain = { ...options, precision: "fp32" as const, dropPath: 0 }; // drop path is drawn by each device's own generator
    const [cpu, cuda] = [await runFinetune({ ...plain, device: "cpu" }), await runFinetune(plain)];
    cuda.steps.forEach(({ loss }, i) => expect(Math.abs(loss / cpu.steps[i]!.loss - 1)).toBeLessThan(i === 0 ? 1e-5 : 1e-2));
    expect(cuda.evaluations.length).toBe(2);
  });

  test.each(["fp32", "bf16", "fp16"] as const)("stopped and resumed in %s it ends with the same bytes", async (precision) => {
    const [whole, part] = [folder(), folder()];
    await runFinetune({ ...options, precision, out: whole });
    await runFinetune({ ...options, precision, out: part, stopAfter: 3 });
    await runFinetune({ ...options, precision, out: part, resume: part, pretrained: undefined });
    expect(readFileSync(join(part, "checkpoint.pth.tar")).equals(readFileSync(join(whole, "checkpoint.pth.tar")))).toBe(true);
    const found = await evaluateFinetuned({ ...quickOptions, data: options.data, device: gpu, precision, resume: whole });
    expect(found!.images).toBe(50);
  });
});
