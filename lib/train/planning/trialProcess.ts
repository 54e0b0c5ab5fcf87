/**
 * A process of its own that does a few real steps and tells what they took: only a fresh process's peak of memory is the steps' own. Its
 * argument is a `TrialRequest` as JSON; it prints a `TrialReport`.
 */
import { readFileSync } from "node:fs";
import * as torch from "../../torch/index.js";
import { resolveOptions } from "../pretrainOptions.js";
import { TrialTraining } from "./trialTraining.js";
import type { TrialReport, TrialRequest, TrialStep } from "./trialRun.js";

const { options, batches, repeats } = JSON.parse(process.argv[2] as string) as TrialRequest;
const recipe = resolveOptions({ ...options, data: "" });
const onGpu = recipe.device !== "cpu";

/** Largest memory of this process, or of the GPU's tensors, so far; null where the system does not tell. */
function peakBytes(): number | null {
  if (onGpu) return torch.deviceMemory(recipe.device).peakAllocated;
  return processPeak();
}

function processPeak(): number | null {
  try {
    const kilobytes = /VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
    return kilobytes === undefined ? null : 1024 * Number(kilobytes);
  } catch {
    return null;
  }
}

torch.retainFreedMemory();
const baseBytes = processPeak();
const training = new TrialTraining(recipe);
const networkBytes = peakBytes();
// Small to large, so that each peak is this batch's and not an earlier one's.
const steps: TrialStep[] = [];
for (const batch of batches) {
  const seconds: number[] = [];
  while (seconds.length < repeats) seconds.push(await training.step(batch));
  steps.push({ batch, seconds, peakBytes: peakBytes() });
}
const report: TrialReport = { baseBytes, networkBytes, steps, device: recipe.device };
process.stdout.write(`${JSON.stringify(report)}\n`);
training[Symbol.dispose]();
