import * as torch from "../../lib/torch/index.js";
import type { CompileKernel, FunctionContext, KernelSource, Tensor } from "../../lib/torch/index.js";

/** `x * x * x` and its gradient: two kernels in one source, for the tests. */
export const cubeSource: KernelSource = {
  name: "cube",
  source: `
extern "C" __global__ void cube(const float* x, float* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] * x[i] * x[i];
}
extern "C" __global__ void cubeBackward(const float* x, const float* ofY, float* ofX, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) ofX[i] = 3 * x[i] * x[i] * ofY[i];
}`,
};

/** The computation with both kernels; `fallback` is counted, so that a test sees which form ran. */
export function makeCube(counts: { fallbacks: number }, compile?: CompileKernel): (x: Tensor) => Tensor {
  const extent = (n: number) => ({ grid: Math.ceil(n / 256), block: 256 });
  return torch.customKernel({
    ...cubeSource, entries: ["cube", "cubeBackward"],
    takes: (x: Tensor) => x.dtype === "float32" && x.isContiguous(),
    device: (x) => x.device,
    fused(context: FunctionContext<[x: Tensor]>, { cube }, x: Tensor) {
      context.saveForBackward(x);
      const y = torch.emptyLike(x);
      cube.launch(extent(x.numel()), x, y, { int32: x.numel() });
      return y;
    },
    backward(context, { cubeBackward }, gradient) {
      const [x] = context.saved;
      const ofX = torch.emptyLike(x);
      cubeBackward.launch(extent(x.numel()), x, gradient.contiguous(), ofX, { int32: x.numel() });
      return [ofX];
    },
    fallback(x: Tensor): Tensor {
      counts.fallbacks++;
      return x.mul(x).mul(x);
    },
  }, compile);
}
