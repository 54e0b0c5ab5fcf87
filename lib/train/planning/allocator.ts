import { planMemory, type MemoryPlan, type MemorySetting } from "./memoryPlan.js";
import type { NetworkCost } from "./networkCost.js";
import type { TrialReport } from "./trialRun.js";

/** Where the system does not tell a process's peak: the middle of what was measured on Linux (1.10 to 1.25). */
const CPU_ALLOCATOR = 1.17;

/**
 * What memory a trial took beyond the process's own, over what the network's layers say. On a CPU, blocks that are taken and freed leave gaps;
 * a GPU's peak counts tensors only, so the factor is near 1 there.
 */
export function allocatorFactor(network: NetworkCost, setting: MemorySetting, trial: TrialReport): number {
  const largest = trial.steps.at(-1);
  if (largest?.peakBytes == null) return setting.onGpu ? 1 : CPU_ALLOCATOR;
  const base = setting.onGpu ? 0 : (trial.baseBytes ?? 0);
  return (largest.peakBytes - base) / trialBytes(network, setting, largest.batch);
}

/** The memory that a trial's step should take beyond the process's own: its own views and nothing ahead, no checkpoints. */
export function trialBytes(network: NetworkCost, setting: MemorySetting, batch: number): number {
  const { training } = planMemory(network, { ...setting, batch, chunk: null });
  const views = 2 * 3 * setting.imageSize[0] * setting.imageSize[1] * 4 * batch;
  return views + sumOf(training.parts.filter(({ kind }) => kind === "state" || kind === "activations"));
}

/** A plan with what the allocator adds, as a part of its own. */
export function withAllocator(plan: MemoryPlan, factor: number): MemoryPlan {
  const bytes = (factor - 1) * sumOf(plan.training.parts.filter(({ kind }) => kind === "state" || kind === "activations" || kind === "views"));
  const parts = [...plan.training.parts, { kind: "process" as const, name: "gaps between blocks, as in the trial", bytes }];
  return { ...plan, training: { parts, bytes: plan.training.bytes + bytes } };
}

function sumOf(parts: readonly { bytes: number }[]): number {
  return parts.reduce((sum, { bytes }) => sum + bytes, 0);
}
