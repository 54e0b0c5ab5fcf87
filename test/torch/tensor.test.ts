import { describe, expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

describe("creation", () => {
  test("from nested arrays, with the dtypes PyTorch would choose", () => {
    torch.scope(() => {
      const t = torch.tensor([[1, 2, 3], [4, 5, 6.5]]);
      expect(t.shape).toEqual([2, 3]);
      expect(t.dtype).toBe("float32");
      expect(t.toArray()).toEqual([[1, 2, 3], [4, 5, 6.5]]);
      expect(torch.tensor([true, false]).dtype).toBe("bool");
      expect(torch.tensor([1n, 2n]).dtype).toBe("int64");
      expect(torch.tensor(3).shape).toEqual([]);
      expect(torch.tensor([]).shape).toEqual([0]);
      expect(torch.tensor([[], []]).shape).toEqual([2, 0]);
    });
  });

  test.each([
    ["float64", [0.1, -2.5]], ["float32", [0.5, -2.5]], ["float16", [0.5, -65504]], ["bfloat16", [0.5, -2.5]], ["int64", [5, -7]],
    ["int32", [5, -7]], ["int16", [5, -7]], ["int8", [5, -7]], ["uint8", [5, 250]], ["bool", [true, false]],
  ] as const)("%s keeps its values there and back", (dtype, values) => {
    torch.scope(() => {
      const t = torch.tensor(values as unknown as number[], undefined, { dtype });
      expect(t.dtype).toBe(dtype);
      expect(t.toArray()).toEqual(values);
    });
  });

  test("a typed array is copied by tensor() and shared by fromTypedArray()", () => {
    torch.scope(() => {
      const array = new Float32Array([1, 2, 3, 4]);
      const copy = torch.tensor(array, [2, 2]);
      const shared = torch.fromTypedArray(array, [2, 2]);
      array[0] = 9;
      expect(copy.toArray()).toEqual([[1, 2], [3, 4]]);
      expect(shared.toArray()).toEqual([[9, 2], [3, 4]]);
      shared.add_(1);
      expect([...array]).toEqual([10, 3, 4, 5]);
    });
  });

  test("an array in the middle of a buffer is read from its own place", () => {
    torch.scope(() => {
      const buffer = new Float64Array([0, 1, 2, 3]);
      expect(torch.tensor(buffer.subarray(1, 3)).toArray()).toEqual([1, 2]);
      expect(torch.fromTypedArray(buffer.subarray(2)).toArray()).toEqual([2, 3]);
    });
  });

  test("int64 values beyond 2^53 stay exact", () => {
    torch.scope(() => {
      const big = 2n ** 62n + 1n;
      const t = torch.tensor(new BigInt64Array([big, -5n]));
      expect(t.select(0, 0).item()).toBe(big);
      expect(t.select(0, 1).item()).toBe(-5);
      expect(t.data()).toEqual(new BigInt64Array([big, -5n]));
      expect(torch.add(t, 2n ** 60n).select(0, 0).item()).toBe(big + 2n ** 60n);
    });
  });

  test.each([
    [() => torch.tensor([[1, 2], [3]]), /rows have different shapes, \[2\] and \[1\]/],
    [() => torch.tensor([1.5], undefined, { dtype: "int64" }), /1\.5 is not a whole number that int64 can hold/],
    [() => torch.tensor([300], undefined, { dtype: "uint8" }), /300 is outside the range of uint8/],
    [() => torch.tensor(new Float32Array(6), [4, 2]), /shape \[4, 2\] has 8 elements, the data 6/],
    [() => torch.tensor(["a"] as unknown as number[]), /elements are numbers, BigInts or booleans, got string/],
    [() => torch.fromBytes(new Uint8Array(7), [2], "float32"), /has 8 bytes, got 7/],
    [() => torch.tensor([1], undefined, { dtype: "float31" as "float32" }), /float31/],
  ])("bad data is refused: %#", (make, message) => {
    expect(make).toThrow(TypeError);
    expect(make).toThrow(message);
  });
});

describe("access", () => {
  test("data() gives elements in C order, whatever the strides", () => {
    torch.scope(() => {
      const t = torch.tensor([[1, 2, 3], [4, 5, 6]]).t();
      expect(t.strides).toEqual([1, 3]);
      expect(t.isContiguous()).toBe(false);
      expect([...t.data()]).toEqual([1, 4, 2, 5, 3, 6]);
      expect(new Float32Array(t.bytes().buffer)).toEqual(new Float32Array([1, 4, 2, 5, 3, 6]));
    });
  });

  test("sharedBytes() sees and makes changes, and outlives the handle", () => {
    const t = torch.tensor([1, 2]);
    const view = new Float32Array(t.sharedBytes().buffer);
    view[0] = 7;
    expect(t.toArray()).toEqual([7, 2]);
    t.add_(1);
    t.dispose();
    expect([...view]).toEqual([8, 3]);
  });

  test("views share storage, clones do not", () => {
    torch.scope(() => {
      const t = torch.arange(6, { dtype: "int64" });
      const view = t.narrow(0, 2, 3);
      expect(torch.storageOf(view)).toEqual({ ...torch.storageOf(t), offset: 2 });
      expect(torch.storageOf(t.clone()).id).not.toBe(torch.storageOf(t).id);
    });
  });

  test("to() converts, and is the same tensor when there is nothing to do", () => {
    torch.scope(() => {
      const t = torch.tensor([1.9, -1.9]);
      expect(t.to("int64").toArray()).toEqual([1, -1]);
      expect(t.to("cpu")).toBe(t);
      expect(t.to("float32")).toBe(t);
      expect(() => t.to("gpu")).toThrow(/unknown device "gpu"|Device/);
    });
  });

  test("a disposed tensor says which operator met it", () => {
    const t = torch.ones([2]);
    t.dispose();
    t.dispose();
    expect(() => t.shape).toThrow(torch.DisposedTensorError);
    expect(() => torch.add(t, 1)).toThrow(/add: the tensor was disposed of/);
    expect(() => torch.cat([t])).toThrow(/cat: the tensor was disposed of/);
    expect(String(t)).toBe("tensor(disposed)");
  });
});
