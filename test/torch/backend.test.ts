import { expect, test } from "@jest/globals";
import { native } from "../../lib/native.js";
import * as torch from "../../lib/torch/index.js";

test("every flag is known to libtorch, and others are refused", () => {
  // As they are by default, so that nothing changes for other tests.
  torch.setBackendFlags({
    cudnnBenchmark: false, deterministic: false, flashAttention: true, memoryEfficientAttention: true, cudnnAttention: true, tf32: undefined,
  });
  expect(() => native.setBackendFlag("tensorCores", true)).toThrow("there is no backend flag tensorCores");
});

test("deterministic kernels are asked for where they matter", () => {
  // Filling fresh memory, which PyTorch adds to them, costs a pass over each tensor and is left out.
  torch.setBackendFlags({ deterministic: true });
  try {
    torch.scope(() => expect(torch.ones([3]).cumsum(0).toArray()).toEqual([1, 2, 3]));
  } finally {
    torch.setBackendFlags({ deterministic: false });
  }
});

test("the CPU's memory is not a device's", () => {
  for (const ask of [torch.deviceMemory, torch.resetPeakDeviceMemory, torch.releaseDeviceMemory]) expect(() => ask("cpu")).toThrow(RangeError);
});

(torch.cudaDeviceCount() > 0 ? test.skip : test)("without a GPU its memory is an error, not a crash", () => {
  expect(() => torch.deviceMemory("cuda")).toThrow(/CUDA|cuda/);
});
