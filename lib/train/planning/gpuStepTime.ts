import type { GpuType } from "./gpuTypes.js";
import { planMemory, type MemorySetting } from "./memoryPlan.js";
import { stepFlop, type NetworkCost } from "./networkCost.js";

/**
 * How often what is kept for the backward pass goes through the GPU's memory in a step: written, read again, its gradient written and read,
 * casts between, and the momentum encoder's pass. Fitted once to ten measured steps of four networks on an H200 (benchmarks/results/plan.json
 * has how well); between 12 for ViT-B and 20 for a ViT with convolutions.
 */
const MEMORY_PASSES = 16;
/** Seconds in which the JavaScript thread and autograd launch one layer's kernels, in both encoders and backward: 41 ms for ViT-S at batch 32. */
const LAUNCH_SECONDS = 0.47e-3;

/**
 * Seconds of a step on one GPU that was not tried: arithmetic at the speed of a large matrix product, everything kept through memory so many
 * times, and a floor of launches, which hide behind the work the better the larger the batch is.
 */
export function gpuStepSeconds(network: NetworkCost, gpu: GpuType, setting: Omit<MemorySetting, "onGpu">): number {
  const { training } = planMemory(network, { ...setting, onGpu: true });
  const kept = training.parts.filter(({ kind }) => kind === "activations").reduce((sum, { bytes }) => sum + bytes, 0);
  const work = (setting.batch * stepFlop(network)) / gpu.matrixFlops + (MEMORY_PASSES * kept) / gpu.memoryBandwidth;
  const launches = network.encoder.layers * LAUNCH_SECONDS;
  return Math.hypot(work, launches);
}
