import { fixCublasWorkspace } from "../config.js";
import * as torch from "../torch/index.js";

/**
 * Lets a GPU use only kernels that give the same bits each time, where that is asked for, while a training runs. Does nothing on the CPU,
 * whose kernels repeat themselves anyway.
 *
 * Upstream also lets cuDNN try its algorithms and keep the fastest. On an H200 that took 17 seconds at a ResNet-50's start and gained nothing
 * in a step (see docs/benchmarks.md), so cuDNN's own choice stays.
 *
 * @returns what puts libtorch's defaults back
 */
export function chooseKernels({ device, deterministic }: { device: string; deterministic: boolean }): Disposable {
  if (device === "cpu" || !deterministic) return { [Symbol.dispose]: () => {} };
  fixCublasWorkspace();
  torch.setBackendFlags({ deterministic });
  return { [Symbol.dispose]: () => torch.setBackendFlags({ deterministic: false }) };
}
