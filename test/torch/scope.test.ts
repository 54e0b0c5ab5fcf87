import { afterAll, expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";

const before = torch.memory().tensors;
afterAll(() => expect(torch.memory().tensors).toBe(before));

const live = (): number => torch.memory().tensors - before;

test("frees what was made inside, except what is returned in whatever structure", () => {
  const result = torch.scope(() => {
    const a = torch.ones([2]);
    return { list: [a.mul(2)], map: new Map([["k", a.mul(3)]]), deep: { value: a.mul(4) }, plain: 5 };
  });
  expect(live()).toBe(3);
  expect(result.map.get("k")?.toArray()).toEqual([3, 3]);
  for (const tensor of [result.list[0], result.map.get("k"), result.deep.value]) tensor?.dispose();
  expect(live()).toBe(0);
});

test("a returned tensor belongs to the surrounding scope", () => {
  torch.scope(() => {
    const inner = torch.scope(() => torch.ones([2]).mul(2));
    expect(live()).toBe(1);
    expect(inner.toArray()).toEqual([2, 2]);
  });
  expect(live()).toBe(0);
});

test("a tensor from outside that is returned is left alone", () => {
  const outside = torch.ones([1]);
  torch.scope(() => torch.scope(() => outside));
  expect(outside.disposed).toBe(false);
  outside.dispose();
});

test("frees when the function throws, and keeps what is kept", () => {
  let kept: torch.Tensor | undefined;
  expect(() =>
    torch.scope(() => {
      kept = torch.keep(torch.ones([3]));
      torch.zeros([3]);
      throw new Error("inside");
    }),
  ).toThrow("inside");
  expect(live()).toBe(1);
  kept?.dispose();
});

test("refuses promises", () => {
  expect(() => torch.scope(async () => torch.ones([2]))).toThrow(/returned a Promise/);
  expect(live()).toBe(0);
});

test("an open scope holds tensors over awaits, and only its own", async () => {
  const other = torch.ones([1]);
  {
    using scope = torch.openScope();
    const x = scope.run(() => torch.ones([2]).add(1));
    await new Promise((resolve) => setTimeout(resolve, 1));
    const y = scope.run(() => x.mul(2));
    expect(y.toArray()).toEqual([4, 4]);
    expect(live()).toBe(4);
  }
  expect(live()).toBe(1);
  other.dispose();
});

test("`using` frees a single tensor", () => {
  {
    using t = torch.ones([2]);
    expect(t.numel()).toBe(2);
  }
  expect(live()).toBe(0);
});

test("a gradient's handle goes with its tensor", () => {
  const w = torch.ones([2], { dtype: "float32" }).requiresGrad_();
  torch.scope(() => w.sum().backward());
  expect(w.grad?.toArray()).toEqual([1, 1]);
  expect(live()).toBe(2);
  w.dispose();
  expect(live()).toBe(0);
});

test("memory() counts shared storage once", () => {
  torch.scope(() => {
    const { bytes } = torch.memory();
    const t = torch.zeros([1000]);
    t.view([10, 100]);
    expect(torch.memory().bytes - bytes).toBe(4000);
  });
});

test("a loop in scopes does not grow", () => {
  const x = torch.randn([64, 64]);
  for (let i = 0; i < 2000; i++) torch.scope(() => void torch.mm(x, x).add(1).sum());
  expect(live()).toBe(1);
  x.dispose();
});
