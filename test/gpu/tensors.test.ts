import { afterEach, expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import type { DType, Tensor } from "../../lib/torch/index.js";
import { maxRelative, numbers } from "../support/digest.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { gpu, onGpu } from "./onGpu.js";

expectNoTensorsLeft();

/** Both results of one computation in float64. */
function onBoth(compute: (input: Tensor) => Tensor, shape: number[]): [gpu: Float64Array, cpu: Float64Array] {
  return torch.scope(() => {
    const input = torch.randn(shape, { dtype: "float64" });
    return [numbers(compute(input.to(gpu))), numbers(compute(input))];
  });
}

onGpu("tensors on a GPU", () => {
  afterEach(() => torch.setBackendFlags({ deterministic: false, tf32: false }));

  test.each<DType>(["float32", "float64", "float16", "bfloat16", "int64", "uint8", "bool"])("go there and back as they were: %s", (dtype) => {
    torch.scope(() => {
      const values = torch.randint(0, 2, [3, 5]).to(dtype);
      const there = values.to(gpu);
      expect([there.device, there.dtype, there.shape]).toEqual([gpu, dtype, [3, 5]]);
      expect(there.bytes()).toEqual(values.bytes());
      expect(there.to("cpu").bytes()).toEqual(values.bytes());
      expect(there.toArray()).toEqual(values.toArray());
    });
  });

  test.each<[string, (x: Tensor) => Tensor, number[]]>([
    ["matmul", (x) => x.matmul(x.t()), [33, 70]],
    ["softmax", (x) => torch.softmax(x, -1), [9, 100]],
    ["layerNorm", (x) => torch.layerNorm(x, [64], null, null, 1e-6), [10, 64]],
    ["gelu", (x) => torch.gelu(x), [1000]],
    ["attention", (x) => torch.scaledDotProductAttention(x, x, x), [2, 3, 50, 16]],
    ["convolution", (x) => torch.conv2d(x, x.narrow(0, 0, 2).narrow(2, 0, 3).narrow(3, 0, 3)), [4, 6, 12, 12]],
    ["pooling", (x) => torch.maxPool2d(x, [3, 3], [2, 2], [1, 1]), [2, 3, 15, 15]],
    ["topk", (x) => torch.topk(x, 5)[0] as Tensor, [7, 40]],
    ["norms of many tensors", (x) => torch.stack(torch._foreachNorm(x.unbind(0), 2)), [200, 30]],
  ])("%s gives what the CPU gives", (_, compute, shape) => {
    const [found, expected] = onBoth(compute, shape);
    expect(maxRelative(found, expected)).toBeLessThan(1e-12);
  });

  test("gradients too", () => {
    const [found, expected] = onBoth((x) => {
      const leaf = x.detach().requiresGrad_();
      leaf.matmul(leaf.t()).tanh().sum().backward();
      return torch.scope(() => {
        const gradient = leaf.grad!.clone();
        leaf.grad = null;
        return gradient;
      });
    }, [20, 30]);
    expect(maxRelative(found, expected)).toBeLessThan(1e-12);
  });

  test("a seed repeats random numbers, and a generator's state can be put back", () => {
    torch.scope(() => {
      torch.manualSeed(5);
      const first = torch.randn([100], { device: gpu }).bytes();
      const state = torch.getRngState(gpu);
      const second = torch.randn([100], { device: gpu }).bytes();
      torch.setRngState(state, gpu);
      expect(torch.randn([100], { device: gpu }).bytes()).toEqual(second);
      torch.manualSeed(5);
      expect(torch.randn([100], { device: gpu }).bytes()).toEqual(first);
    });
  });

  test("an operator on tensors of two devices says so", () => {
    torch.scope(() => {
      expect(() => torch.ones([2], { device: gpu }).add(torch.ones([2]))).toThrow(/same device.*cuda:0.*cpu|same device/);
    });
  });

  test("more memory than there is, is an error, and the next tensor works", () => {
    torch.scope(() => {
      expect(() => torch.empty([2 ** 43], { device: gpu })).toThrow(/out of memory/);
      expect(torch.ones([3], { device: gpu }).sum().item()).toBe(3);
    });
  });

  test("memory is counted, its peak too, and given back", () => {
    const before = torch.deviceMemory(gpu);
    torch.resetPeakDeviceMemory(gpu);
    const tensor = torch.empty([2 ** 20], { device: gpu });
    expect(torch.deviceMemory(gpu).allocated - before.allocated).toBe(2 ** 22);
    tensor.dispose();
    expect(torch.deviceMemory(gpu)).toMatchObject({ allocated: before.allocated, peakAllocated: before.allocated + 2 ** 22 });
    torch.releaseDeviceMemory(gpu);
    expect(torch.deviceMemory(gpu).reserved).toBeLessThanOrEqual(before.reserved);
  });

  test("TF32 rounds float32 products where it is allowed, and only there", () => {
    const errorOf = (tf32: boolean): number => torch.scope(() => {
      torch.setBackendFlags({ tf32 });
      const [a, b] = [0, 1].map(() => torch.randn([256, 256], { device: gpu })) as [Tensor, Tensor];
      return maxRelative(numbers(a.matmul(b)), numbers(a.to("float64").matmul(b.to("float64"))));
    });
    expect(errorOf(false)).toBeLessThan(1e-6);
    expect(errorOf(true)).toBeGreaterThan(1e-5);
  });

  test("deterministic kernels refuse what has none", () => {
    torch.setBackendFlags({ deterministic: true });
    torch.scope(() => {
      expect(() => torch.ones([10], { device: gpu }).to("int64").bincount()).not.toThrow();
      const x = torch.ones([1, 1, 4, 4], { device: gpu }).requiresGrad_();
      expect(() => torch.adaptiveAvgPool2d(x, [3, 3]).sum().backward()).toThrow(/deterministic/);
    });
  });
});
