import { describe, expect, test } from "@jest/globals";
import { formatTensor, formatValues, printEdge, type Printable } from "../../lib/torch/print.js";
import type { DType, TypedArray } from "../../lib/torch/dtype.js";
import { readJson } from "../support/fixtures.js";

/** A tensor and PyTorch's text of it. Integers beyond 2^53 and what JSON lacks are strings; complex numbers are pairs. */
interface Golden {
  name: string;
  dtype: DType;
  shape: number[];
  data: (number | string)[];
  text: string;
}

const literals: Readonly<Record<string, number>> = { nan: NaN, inf: Infinity, "-inf": -Infinity, "-0": -0 };

function decode(value: number | string): number | bigint {
  return typeof value === "number" ? value : literals[value] ?? BigInt(value);
}

describe("elements look as PyTorch 2.11 prints them", () => {
  test.each(readJson<Golden[]>("print/tensors.json"))("$name", ({ data, shape, dtype, text }) => {
    expect(formatValues(data.map(decode), shape, dtype)).toBe(text);
  });
});

function printable(data: TypedArray, shape: number[], rest: Partial<Printable> = {}): Printable {
  return { shape, dtype: "float32", device: "cpu", data: () => data, ...rest };
}

describe("formatTensor", () => {
  test("shows the shape, and nothing else of a plain tensor", () => {
    expect(formatTensor(printable(new Float32Array([1, 2.5]), [2]))).toBe("tensor([1.0000, 2.5000], shape=[2])");
    expect(formatTensor(printable(new Float32Array([3]), []))).toBe("tensor(3., shape=[])");
    expect(formatTensor(printable(BigInt64Array.of(1n, 2n), [2], { dtype: "int64" }))).toBe("tensor([1, 2], shape=[2])");
    expect(formatTensor(printable(Uint8Array.of(1, 0), [2], { dtype: "bool" }))).toBe("tensor([ True, False], shape=[2])");
  });

  test("shows a dtype, device and gradient that are not the usual ones", () => {
    const data = new Float32Array([1]);
    expect(formatTensor(printable(data, [1], { dtype: "bfloat16" }))).toBe("tensor([1.], shape=[1], dtype=bfloat16)");
    expect(formatTensor(printable(data, [1], { device: "cuda:0" }))).toBe("tensor([1.], shape=[1], device=cuda:0)");
    expect(formatTensor(printable(data, [1], { requiresGrad: true, gradFn: null }))).toBe("tensor([1.], shape=[1], requires_grad=true)");
    expect(formatTensor(printable(data, [1], { requiresGrad: true, gradFn: "AddBackward0" })))
      .toBe("tensor([1.], shape=[1], grad_fn=<AddBackward0>)");
  });

  test("an empty tensor shows its dtype, since no element tells", () => {
    expect(formatTensor(printable(new BigInt64Array(0), [0, 2], { dtype: "int64" }))).toBe("tensor([], shape=[0, 2], dtype=int64)");
  });

  test("a meta tensor has no elements to show", () => {
    const data = (): never => { throw new Error("a meta tensor has no data"); };
    expect(formatTensor({ shape: [2], dtype: "float32", device: "meta", data })).toBe("tensor(..., shape=[2], device=meta)");
  });

  test("what does not fit the line goes to the next", () => {
    const text = formatTensor(printable(new Float32Array(10).fill(0.5), [10], { dtype: "float64", requiresGrad: true }));
    expect(text).toBe([
      "tensor([0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000,",
      "        0.5000], shape=[10], dtype=float64, requires_grad=true)",
    ].join("\n"));
  });

  test("a large tensor needs only its edges", () => {
    const full = Float32Array.from({ length: 40 * 50 }, (_, i) => i / 7);
    const edges = (size: number): number[] =>
      Array.from({ length: 2 * printEdge }, (_, i) => (i < printEdge ? i : size - 2 * printEdge + i));
    const shown = Float32Array.from(edges(40).flatMap((row) => edges(50).map((column) => full[row * 50 + column] as number)));
    const data = (): never => { throw new Error("copied the whole tensor"); };
    expect(formatTensor(printable(full, [40, 50], { data, edgeData: () => shown }))).toBe(formatTensor(printable(full, [40, 50])));
  });
});
