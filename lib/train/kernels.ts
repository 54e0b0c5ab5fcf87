import { fixCublasWorkspace } from "../config.js";
import * as torch from "../torch/index.js";

/**
 * Lets a GPU use only kernels that give the same bits each time, or round float32 to TF32 in matrix products, where that is asked for, while a
 * training runs. Does nothing on the CPU, whose kernels repeat themselves anyway.
 *
 * Upstream also lets cuDNN try its algorithms and keep the fastest. On an H200 that took 17 seconds at a ResNet-50's start and gained nothing
 * in a step (see docs/benchmarks.md), so cuDNN's own choice stays.
 *
 * @returns what puts libtorch's defaults back
 */
export function chooseKernels({ device, deterministic, tf32 = false }: { device: string; deterministic: boolean; tf32?: boolean }): Disposable {
  if (device === "cpu") return { [Symbol.dispose]: () => {} };
  if (deterministic) fixCublasWorkspace();
  // Only what was asked for is put back: somebody else may have set the other.
  const flags = { ...(deterministic ? { deterministic } : {}), ...(tf32 ? { tf32Products: true } : {}) };
  torch.setBackendFlags(flags);
  return { [Symbol.dispose]: () => torch.setBackendFlags(Object.fromEntries(Object.keys(flags).map((name) => [name, false]))) };
}
