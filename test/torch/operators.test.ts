import { describe, expect, test } from "@jest/globals";
import { native } from "../../lib/native.js";
import * as torch from "../../lib/torch/index.js";
import { isSupported, parseSchema } from "../../lib/torch/schema.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

describe("arguments", () => {
  test("by position, by name, and defaults", () => {
    torch.scope(() => {
      const x = torch.tensor([[1, 2], [3, 4]]);
      expect(torch.add(x, x, { alpha: 10 }).toArray()).toEqual([[11, 22], [33, 44]]);
      expect(torch.sum(x, [1], true).toArray()).toEqual([[3], [7]]);
      expect(torch.sum(x, 1, { keepdim: true }).toArray()).toEqual([[3], [7]]);
      expect(torch.sum(x, { dtype: "float64" }).dtype).toBe("float64");
      expect(torch.sum(x, []).item()).toBe(10);
      expect(torch.clamp(x, null, 2).toArray()).toEqual([[1, 2], [2, 2]]);
      expect(torch.clamp(x, { min: 3 }).toArray()).toEqual([[3, 3], [3, 4]]);
    });
  });

  test("overloads are chosen by the arguments, or by name", () => {
    torch.scope(() => {
      const x = torch.tensor([[1, 5], [4, 2]]);
      expect(torch.max(x).item()).toBe(5);
      const [values, indices] = torch.max(x, 1);
      expect([values.toArray(), indices.toArray()]).toEqual([[5, 4], [1, 0]]);
      expect(torch.split(x, 1).map((part) => part.toArray())).toEqual([[[1, 5]], [[4, 2]]]);
      expect(torch.split(x, [2, 0]).map((part) => part.shape)).toEqual([[2, 2], [0, 2]]);
      expect((torch.op("mul.Scalar")(x, 2) as torch.Tensor).toArray()).toEqual([[2, 10], [8, 4]]);
      expect((torch.op("layerNorm")(x, [2]) as torch.Tensor).shape).toEqual([2, 2]);
    });
  });

  test("whole numbers are integers, others floats, as scalars", () => {
    torch.scope(() => {
      const whole = torch.tensor([1, 2], undefined, { dtype: "int64" });
      expect(torch.mul(whole, 2).dtype).toBe("int64");
      expect(torch.mul(whole, 2.5).dtype).toBe("float32");
      expect(torch.full([2], -0).data()[0]).toBe(-0);
      expect(torch.add(torch.tensor([1]), { real: 0, imag: 1 }).dtype).toBe("complex64");
    });
  });

  test("lists of tensors, optional tensors, scalars, booleans and strings", () => {
    torch.scope(() => {
      const x = torch.arange(6, { dtype: "float32" }).reshape([2, 3]);
      expect(torch.cat([x, x], 1).shape).toEqual([2, 6]);
      expect(torch.index(x, [null, torch.tensor([0n, 2n])]).toArray()).toEqual([[0, 2], [3, 5]]);
      expect(torch.einsum("ij,kj->ik", [x, x]).toArray()).toEqual([[5, 14], [14, 50]]);
      expect(torch.div(x, 2, { roundingMode: "floor" }).toArray()).toEqual([[0, 0, 1], [1, 2, 2]]);
      expect(torch._foreachMul([x, x], [2, 0.5]).map((each) => each.sum().item())).toEqual([30, 7.5]);
      const many = Array.from({ length: 3000 }, () => torch.ones([1]));
      expect(torch.cat(many).sum().item()).toBe(3000);
    });
  });

  test("in place, out=, several and no results", () => {
    torch.scope(() => {
      const x = torch.tensor([1, 2]);
      expect(x.add_(1)).toBe(x);
      expect(torch.mul_(x, 2)).toBe(x);
      const out = torch.empty([0]);
      expect(torch.add(x, x, { out })).toBe(out);
      expect(out.toArray()).toEqual([8, 12]);
      expect(torch._foreachAdd_([x], 1)).toBeUndefined();
      expect(x.toArray()).toEqual([5, 7]);
      const results = torch.nativeLayerNorm(torch.randn([2, 3]), [3], null, null, 1e-5);
      expect(results.map((each) => each.shape)).toEqual([[2, 3], [2, 1], [2, 1]]);
    });
  });

  test("dtype, device, layout, memory format and generator", () => {
    torch.scope(() => {
      const x = torch.zeros([1, 2, 3, 3], { dtype: "float64", device: "cpu", layout: "strided" });
      expect(x.to({ dtype: "float32" }).contiguous({ memoryFormat: "channels_last" }).strides).toEqual([18, 1, 6, 2]);
      const draw = (): unknown => torch.randn([3], { generator: new torch.Generator().manualSeed(5) }).toArray();
      expect(draw()).toEqual(draw());
    });
  });
});

describe("errors", () => {
  test.each([
    [() => torch.mm(torch.ones([2, 2]), "b" as never), /mm: argument 'mat2' must be Tensor, got "b"/],
    [() => torch.reshape(torch.ones([2]), [1.5] as never), /argument 'shape' must be int\[\], got \[1\.5\]/],
    [() => torch.sum(torch.ones([2]), { dtyp: "float32" } as never), /has no argument 'dtyp'/],
    [() => torch.layerNorm(torch.ones([2]) as never, undefined as never), /needs argument 'normalizedShape' \(int\[\]\)/],
    [() => torch.op("relu")(torch.ones([2]), 1, 2), /takes 1 positional arguments, got 3/],
    [() => torch.op("layer_nrom"), /no operator 'layer_nrom'; the nearest names are layerNorm/],
    [() => torch.op("add.Nothing"), /has no overload 'Nothing'; it has .*Tensor/],
  ])("a call that cannot be made is a TypeError: %#", (call, message) => {
    torch.scope(() => {
      expect(call).toThrow(TypeError);
      expect(call).toThrow(message);
    });
  });

  test("what libtorch refuses names the operator, the reason and the arguments", () => {
    torch.scope(() => {
      const call = (): unknown => torch.mm(torch.ones([2, 3]), torch.ones([2, 3]));
      expect(call).toThrow(torch.TorchError);
      expect(call).toThrow(/aten::mm: mat1 and mat2 shapes cannot be multiplied.*\n {2}called as mm\(self: float32\[2, 3\], mat2: float32\[2, 3\]\)/s);
    });
  });

  test("an operator that fails leaves nothing behind", () => {
    const live = torch.memory().tensors;
    torch.scope(() => expect(() => torch.cat([torch.ones([2, 2]), torch.ones([3])])).toThrow(torch.TorchError));
    expect(torch.memory().tensors).toBe(live);
  });
});

test("every operator with ordinary types resolves", () => {
  const supported = native.schemas().map(parseSchema).filter(isSupported);
  expect(supported.length).toBeGreaterThan(2500);
  for (const { name, overload } of supported) expect(native.resolve(`aten::${name}`, overload)).not.toBeNull();
  for (const { name, overload } of supported) expect(() => torch.op(overload ? `${name}.${overload}` : name)).not.toThrow();
});
