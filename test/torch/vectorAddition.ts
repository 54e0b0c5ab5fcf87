import type { KernelSource } from "../../lib/torch/index.js";

/** `sum = a + scale * b`, for the tests of loading and launching. */
export const addition: KernelSource = {
  name: "add",
  source: `
extern "C" __global__ void add(const float* a, const float* b, float* sum, float scale, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) sum[i] = a[i] + scale * b[i];
}`,
};
