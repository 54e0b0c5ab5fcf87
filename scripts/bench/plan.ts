import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../lib/setup/packageRoot.js";
import { allocatorFactor, trialBytes } from "../../lib/train/planning/allocator.js";
import { gpuStepSeconds } from "../../lib/train/planning/gpuStepTime.js";
import { gpuTypes } from "../../lib/train/planning/gpuTypes.js";
import type { MemorySetting } from "../../lib/train/planning/memoryPlan.js";
import type { NetworkCost } from "../../lib/train/planning/networkCost.js";
import { costOf } from "../../lib/train/planning/planPretraining.js";
import { computeSeconds, fitStepTime } from "../../lib/train/planning/timePlan.js";
import { runTrial, type TrialRequest } from "../../lib/train/planning/trialRun.js";
import { resolveOptions } from "../../lib/train/pretrainOptions.js";
import { describeRun, median, type BenchmarkOptions, type BenchmarkResult } from "./result.js";

/** What is tried to predict from, and what is predicted. */
const TRIED = [2, 4];
const PREDICTED = { vit_small: [8, 16, 32], vit_base: [8, 16], vit_conv_small: [8, 16, 32], resnet50: [8, 16, 32] } as const;

export interface Row {
  arch: string;
  batch: number;
  bytes: { predicted: number; measured: number };
  seconds: { predicted: number; measured: number };
}

/**
 * What `moco pretrain --plan` predicts from a trial of 2 and 4 images, beside real steps at larger batches, on the CPU; and what the cost model
 * alone predicts of the GPU's steps in step-gpu.json, which it does not see but for the two constants fitted to their times. Ratios are
 * predicted over measured.
 */
export async function benchmarkPlan({ threads, quick, only }: BenchmarkOptions): Promise<BenchmarkResult> {
  const wanted = only?.split(",") ?? Object.keys(PREDICTED);
  const rows: Row[] = [];
  for (const [arch, batches] of Object.entries(PREDICTED)) {
    if (wanted.includes(arch)) rows.push(...(await onCpu(arch, quick ? [8] : batches, threads)));
  }
  const gpu = onGpu();
  gpu.forEach(tell);
  const ratios: Record<string, number> = {};
  for (const [where, each] of [["cpu", rows], ["gpu", gpu]] as const) {
    for (const { arch, batch, bytes, seconds } of each) {
      ratios[`${where}_${arch}_${batch}Memory`] = bytes.predicted / bytes.measured;
      ratios[`${where}_${arch}_${batch}Time`] = seconds.predicted / seconds.measured;
    }
  }
  const meanings = Object.fromEntries(Object.keys(ratios).map((key) => [key, "predicted over measured"]));
  return { ...describeRun("plan", null, { tried: TRIED, threads, gpu: "step-gpu.json" }), ratios, meanings, raw: { cpu: rows, gpu } };
}

function optionsOf(arch: string): TrialRequest["options"] {
  const isVit = arch.startsWith("vit");
  return { encoder: arch, optimizer: isVit ? "adamw" : "lars", stopGradConv1: isVit, temperature: isVit ? 0.2 : 1 };
}

function settingOf(arch: string, setting: Pick<MemorySetting, "batch" | "precision" | "onGpu">): MemorySetting {
  return { ...setting, chunk: null, imageSize: [224, 224], optimizer: optionsOf(arch).optimizer!, augment: "cpu", saveInBackground: false };
}

async function onCpu(arch: string, batches: readonly number[], threads: number): Promise<Row[]> {
  const options = { ...optionsOf(arch), device: "cpu", threads };
  const network = costOf(resolveOptions({ ...options, data: "" }));
  const trial = await runTrial({ options, batches: TRIED, repeats: 3 });
  const base = trial.baseBytes!;
  const rows: Row[] = [];
  for (const batch of batches) {
    const setting = settingOf(arch, { batch, precision: "fp32", onGpu: false });
    const predicted = base + allocatorFactor(network, { ...setting, baseBytes: base }, trial) * trialBytes(network, setting, batch);
    const { steps } = await runTrial({ options, batches: [batch], repeats: 3 });
    rows.push(tell({
      arch, batch, bytes: { predicted, measured: steps[0]!.peakBytes! },
      seconds: { predicted: computeSeconds(fitStepTime(trial.steps), batch, null), measured: Math.min(...steps[0]!.seconds) },
    }));
  }
  return rows;
}

interface GpuMeasurements {
  raw: Record<string, { ours: { seconds: number[]; peakBytes: number } }>;
}

/** The recorded steps on an H200: bfloat16, float16 for the ResNet. Their peaks count tensors, with one batch of views. */
export function onGpu(): Row[] {
  const { raw } = JSON.parse(readFileSync(join(packageRoot, "benchmarks/results/step-gpu.json"), "utf8")) as GpuMeasurements;
  const networks = new Map<string, NetworkCost>();
  return Object.entries(raw).map(([figure, { ours }]) => {
    const [, arch, batch] = /^(.*)_(\d+)$/.exec(figure)! as unknown as [string, string, string];
    const network = networks.get(arch) ?? costOf(resolveOptions({ ...optionsOf(arch), data: "", device: "cpu" }));
    networks.set(arch, network);
    const setting = settingOf(arch, { batch: Number(batch), precision: arch.startsWith("vit") ? "bf16" : "fp16", onGpu: true });
    return {
      arch, batch: Number(batch), bytes: { predicted: trialBytes(network, setting, Number(batch)), measured: ours.peakBytes },
      seconds: { predicted: gpuStepSeconds(network, gpuTypes.h200, setting), measured: median(ours.seconds) },
    };
  });
}

function tell(row: Row): Row {
  const { arch, batch, bytes, seconds } = row;
  const pair = ({ predicted, measured }: Row["bytes"], unit: number): string => `${(predicted / unit).toFixed(2)} for ${(measured / unit).toFixed(2)}`;
  process.stderr.write(`${arch} ${batch}: ${pair(bytes, 1e9)} GB, ${pair(seconds, 1)} s\n`);
  return row;
}
