import { describe, expect, test } from "@jest/globals";
import {
  bfloat16ToFloat32, dtypeCode, dtypeFromCode, dtypeOfTypedArray, dtypes, float16ToFloat32, float32ToBFloat16, float32ToFloat16,
  layoutCode, memoryFormatCode, type DType,
} from "../../lib/torch/dtype.js";

const every16Bits = Uint16Array.from({ length: 65536 }, (_, i) => i);

test("codes and names map to each other", () => {
  for (const name of Object.keys(dtypes) as DType[]) expect(dtypeFromCode(dtypeCode(name))).toBe(name);
  expect(dtypeCode("float32")).toBe(6);
  expect(dtypeCode("bfloat16")).toBe(15);
  expect(() => dtypeCode("float")).toThrow(/unknown dtype "float"; expected one of uint8, .*float32/);
  expect(() => dtypeCode("toString")).toThrow(TypeError);
  expect(() => dtypeFromCode(12)).toThrow(/dtype code 12 is not supported/);
});

test("typed arrays have the dtype's item size", () => {
  for (const { typedArray, itemSize, kind } of Object.values(dtypes)) {
    if (typedArray !== null) expect(typedArray.BYTES_PER_ELEMENT * (kind === "complex" ? 2 : 1)).toBe(itemSize);
  }
  expect(dtypeOfTypedArray(new BigInt64Array(1))).toBe("int64");
  expect(dtypeOfTypedArray(Buffer.alloc(1))).toBe("uint8");
  expect(() => dtypeOfTypedArray(new DataView(new ArrayBuffer(1)))).toThrow(/DataView/);
});

test("layouts and memory formats have c10's codes", () => {
  expect(layoutCode("sparse_csr")).toBe(2);
  expect(memoryFormatCode("channels_last")).toBe(2);
  expect(() => memoryFormatCode("nhwc")).toThrow(/unknown memory format "nhwc"; expected one of contiguous_format/);
});

describe("half precision", () => {
  test.each([
    ["float16", float16ToFloat32, float32ToFloat16], ["bfloat16", bfloat16ToFloat32, float32ToBFloat16],
  ] as const)("%s: every value survives the round trip", (_, widen, narrow) => {
    const values = widen(every16Bits);
    const back = narrow(values);
    const changed = every16Bits.filter((bits) => !Number.isNaN(values[bits]) && back[bits] !== bits);
    expect([...changed]).toEqual([]);
  });

  test.each([
    ["float16", float16ToFloat32, float32ToFloat16, 0x7bff], ["bfloat16", bfloat16ToFloat32, float32ToBFloat16, 0x7f7e],
  ] as const)("%s: values between two neighbours go to the nearer one, ties to the even one", (_, widen, narrow, largest) => {
    const values = widen(every16Bits);
    for (let bits = 0; bits < largest; bits++) {
      const low = values[bits] as number;
      const high = values[bits + 1] as number;
      const middle = (low + high) / 2;
      const spread = (high - low) / 64;
      const [tie, below, above, negative] = narrow(new Float32Array([middle, middle - spread, middle + spread, -middle]));
      const even = bits % 2 === 0 ? bits : bits + 1;
      const ok = tie === even && below === bits && above === bits + 1 && negative === (even | 0x8000);
      if (!ok) throw new Error(`between ${low} and ${high}: ${tie} ${below} ${above} ${negative}`);
    }
  });

  test("limits, infinities and NaN", () => {
    expect([...float32ToFloat16(new Float32Array([65504, 65519, 65520, 1e30, -Infinity, NaN, 2 ** -25, 2 ** -24, -0]))])
      .toEqual([0x7bff, 0x7bff, 0x7c00, 0x7c00, 0xfc00, 0x7e00, 0, 1, 0x8000]);
    expect([...float32ToBFloat16(new Float32Array([3.4028235e38, Infinity, NaN, -0]))]).toEqual([0x7f80, 0x7f80, 0x7fc0, 0x8000]);
    expect([...float16ToFloat32(new Uint16Array([0x7c00, 0xfc00, 0x7e00, 0x8000]))]).toEqual([Infinity, -Infinity, NaN, -0]);
  });

  test("a view in the middle of a buffer", () => {
    const values = new Float32Array([9, 1, 2, 9]).subarray(1, 3);
    expect([...float16ToFloat32(float32ToFloat16(values))]).toEqual([1, 2]);
  });
});
