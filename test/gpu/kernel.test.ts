/** Kernels of one's own: compiled, loaded and launched in the stream that operators run in. */
import { expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { addition } from "../torch/vectorAddition.js";
import { gpu, onGpu } from "./onGpu.js";

expectNoTensorsLeft();

onGpu("a kernel compiled at run time", () => {
  const n = 100_003;
  const extent = { grid: Math.ceil(n / 256), block: 256 };

  test("gives what operators give, in order with them", () => {
    torch.scope(() => {
      using add = torch.compileKernel({ ...addition, device: gpu });
      const [a, b] = [torch.randn([n], { device: gpu }), torch.randn([n], { device: gpu })];
      const sum = torch.emptyLike(a);
      for (let round = 0; round < 20; round++) {
        a.add_(1);
        add.launch(extent, a, b, sum, { float32: 0.5 }, { int32: n });
        const difference = sum.sub(b.mul(0.5).add(a)).abs().max().item();
        expect(difference).toBeLessThan(1e-5);
      }
    });
  });

  test("runs in the current stream, and is recorded in a graph", () => {
    torch.scope(() => {
      using add = torch.compileKernel({ ...addition, device: gpu });
      const [a, b] = [torch.ones([n], { device: gpu }), torch.ones([n], { device: gpu })];
      const work = (): torch.Tensor => {
        const sum = torch.emptyLike(a);
        add.launch(extent, a, b, sum, { float32: 2 }, { int32: n });
        return sum;
      };
      using graph = torch.recordGraph(gpu, () => [work()]);
      a.fill_(10);
      graph.replay();
      expect([graph.outputs[0]!.min().item(), graph.outputs[0]!.max().item()]).toEqual([12, 12]);
    });
  });

  test("all kinds of numbers arrive, and more shared memory than usual", () => {
    torch.scope(() => {
      const source = `extern "C" __global__ void kinds(double* out, int a, long long b, float c, double d) {
        extern __shared__ double shared[];
        if (threadIdx.x == 0) { shared[8000] = a + b + c + d; out[0] = shared[8000]; }
      }`;
      using kinds = torch.compileKernel({ name: "kinds", source, device: gpu });
      const out = torch.zeros([1], { dtype: "float64", device: gpu });
      kinds.launch({ grid: 1, block: 32, sharedBytes: 65_536 }, out, { int32: -3 }, { int64: 2 ** 40 }, { float32: 0.25 }, { float64: 1e-3 });
      expect(out.item()).toBe(-3 + 2 ** 40 + 0.25 + 1e-3);
    });
  });

  test("refuses what it would misread, and the device goes on", () => {
    torch.scope(() => {
      const add = torch.compileKernel({ ...addition, device: gpu });
      const x = torch.ones([4, 4], { device: gpu });
      const launch = (other: torch.Tensor): void => add.launch({ grid: 1, block: 16 }, x, other, x, { float32: 1 }, { int32: 16 });
      expect(() => launch(torch.ones([4, 4]))).toThrow(/argument 1 is on cpu/);
      expect(() => launch(x.t().narrow(0, 0, 2))).toThrow(/argument 1 is not contiguous/);
      expect(() => add.launch({ grid: 1, block: 4096 }, x, x, x, { float32: 1 }, { int32: 16 })).toThrow(torch.KernelError);
      expect(x.sum().item()).toBe(16);
      add.dispose();
      add.dispose();
      expect(() => launch(x)).toThrow(/was disposed of/);
    });
  });

  test("is left out with a warning where its source is wrong, and operators do its work", () => {
    const warnings: string[] = [];
    const twice = torch.customKernel({
      name: "twice", source: "wrong", entries: ["twice"], takes: (x: torch.Tensor) => x.isContiguous(), device: (x) => x.device,
      fused(): torch.Tensor {
        throw new Error("unreachable");
      },
      fallback: (x: torch.Tensor) => x.mul(2),
      onWarning: (message) => warnings.push(message),
    });
    torch.scope(() => expect(twice(torch.ones([2], { device: gpu })).toArray()).toEqual([2, 2]));
    expect(warnings).toEqual([expect.stringMatching(/^kernel twice is left out.*does not compile/s)]);
  });
});

onGpu("a GPU's properties", () => {
  test("are the driver's", () => {
    const properties = torch.deviceProperties(gpu);
    expect(properties).toMatchObject({ index: 0, name: expect.stringMatching(/\w/) });
    expect(torch.deviceProperties("cuda")).toEqual(properties);
    expect(properties.capability).toBeGreaterThanOrEqual(7.5);
    expect(properties.bfloat16).toBe(properties.capability >= 8);
    expect(properties.memoryBytes).toBeGreaterThan(2 ** 30);
    expect(properties.multiprocessors).toBeGreaterThan(0);
    expect(properties.sharedBytes).toBeGreaterThanOrEqual(48 << 10);
    expect(() => torch.deviceProperties("cuda:99")).toThrow(torch.DeviceUnavailableError);
  });
});
