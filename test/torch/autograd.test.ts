import { expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

test("backward fills the gradients of the leaves and adds to what is there", () => {
  torch.scope(() => {
    const w = torch.tensor([2, 3], undefined, { requiresGrad: true });
    const loss = (): torch.Tensor => w.mul(w).sum();
    expect(w.grad).toBeNull();
    loss().backward();
    const handle = w.grad as torch.Tensor | null;
    expect(handle?.toArray()).toEqual([4, 6]);
    loss().backward();
    expect(w.grad).toBe(handle);
    expect(w.grad?.toArray()).toEqual([8, 12]);
    w.grad = null;
    expect(w.grad).toBeNull();
    w.mul(2).backward(torch.tensor([1, 10]));
    expect((w.grad as torch.Tensor | null)?.toArray()).toEqual([2, 20]);
  });
});

test("a graph is used once unless it is retained", () => {
  torch.scope(() => {
    const w = torch.tensor([2], undefined, { requiresGrad: true });
    const y = w.mul(w);
    y.backward(null, { retainGraph: true });
    y.backward();
    expect(w.grad?.item()).toBe(8);
    expect(() => y.backward()).toThrow(/second time/);
  });
});

test("grad() gives gradients without storing them, also second ones", () => {
  torch.scope(() => {
    const x = torch.tensor([3], undefined, { requiresGrad: true });
    const unused = torch.tensor([1], undefined, { requiresGrad: true });
    const [first] = torch.grad(x.pow(3), x, { createGraph: true });
    expect(first?.item()).toBe(27);
    const [second] = torch.grad(first as torch.Tensor, x);
    expect(second?.item()).toBe(18);
    expect(x.grad).toBeNull();
    expect(torch.grad(x.pow(2), [x, unused], { allowUnused: true })[1]).toBeNull();
  });
});

test("modes hold inside, nest, and end with an error too", () => {
  torch.scope(() => {
    const w = torch.tensor([1], undefined, { requiresGrad: true });
    torch.noGrad(() => {
      expect(w.mul(2).requiresGrad).toBe(false);
      expect(torch.enableGrad(() => w.mul(2).requiresGrad)).toBe(true);
    });
    expect(() => torch.noGrad(() => { throw new Error("inside"); })).toThrow("inside");
    expect(torch.isGradEnabled()).toBe(true);
    const inferred = torch.inferenceMode(() => w.mul(2));
    expect(inferred.requiresGrad).toBe(false);
    expect(() => inferred.mul(w).sum().backward()).toThrow(/Inference tensors/);
    expect(w.detach().requiresGrad).toBe(false);
    expect(() => torch.noGrad(async () => undefined)).toThrow(/cannot span an await/);
  });
});

test("autocast computes products in the lower precision and nests", () => {
  torch.scope(() => {
    const x = torch.randn([4, 4]);
    const dtypes = torch.autocast({ dtype: "bfloat16" }, () => [
      torch.mm(x, x).dtype,
      torch.autocast({ enabled: false }, () => torch.mm(x, x).dtype),
    ]);
    expect(dtypes).toEqual(["bfloat16", "float32"]);
    expect(torch.mm(x, x).dtype).toBe("float32");
  });
});

test("random numbers follow seeds and states", () => {
  torch.scope(() => {
    torch.manualSeed(7);
    const first = torch.rand([4]).toArray();
    const state = torch.getRngState();
    const second = torch.rand([4]).toArray();
    torch.manualSeed(7);
    expect(torch.rand([4]).toArray()).toEqual(first);
    torch.setRngState(state);
    expect(torch.rand([4]).toArray()).toEqual(second);
    // Python: torch.manual_seed(0); torch.rand(2)
    torch.manualSeed(0);
    expect(torch.rand([2]).data()).toEqual(new Float32Array([0.49625658988952637, 0.7682217955589294]));
  });
});
