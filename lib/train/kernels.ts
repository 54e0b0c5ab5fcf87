import { fixCublasWorkspace } from "../config.js";
import * as torch from "../torch/index.js";

/**
 * Chooses how libtorch picks its kernels on a GPU while a training runs: only those that give the same bits each time, or the fastest, which
 * cuDNN finds out by trying (as upstream lets it). Does nothing on the CPU, whose kernels repeat themselves anyway.
 *
 * @returns what puts libtorch's defaults back
 */
export function chooseKernels({ device, deterministic }: { device: string; deterministic: boolean }): Disposable {
  if (device === "cpu") return { [Symbol.dispose]: () => {} };
  if (deterministic) fixCublasWorkspace();
  torch.setBackendFlags({ deterministic, cudnnBenchmark: !deterministic });
  return { [Symbol.dispose]: () => torch.setBackendFlags({ deterministic: false, cudnnBenchmark: false }) };
}
