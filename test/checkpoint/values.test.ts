import { describe, expect, test } from "@jest/globals";
import { readFileSync } from "node:fs";
import { PythonComplex, PythonTuple, TorchSize } from "../../lib/checkpoint/pythonValues.js";
import { StorageReference, TensorReference } from "../../lib/checkpoint/references.js";
import { dtypes } from "../../lib/torch/dtype.js";
import { fixturePath } from "../support/fixtures.js";
import { parseBytes } from "./assemble.js";
import { elementsInOrder } from "./elements.js";

const read = (name: string): Promise<unknown> => parseBytes(readFileSync(fixturePath(`checkpoints/${name}`)));

function inlineElements(value: unknown): unknown[] {
  const tensor = value as TensorReference;
  return elementsInOrder(tensor, tensor.storage.inline as Uint8Array);
}

describe.each([2, 3, 4, 5])("what PyTorch saves with pickle protocol %i beside plain tensors", (protocol) => {
  test("reads as plain values", async () => {
    const values = (await read(`values_protocol${protocol}.pth`)) as Record<string, unknown>;
    expect(values).toMatchObject({
      numpy_float64: 71.5, numpy_float32: 1.5, numpy_int64: -3, numpy_bool: true,
      namespace: { arch: "vit_small", lr: 0.6, gpus: [0, 1], dist_url: null },
      set: new Set([1, 2]), frozenset: new Set(["a"]), complex: new PythonComplex(1, -2),
      bytearray: Uint8Array.from(Buffer.from("abc")), bytes: Uint8Array.of(0, 255),
      device: "cuda:0", dtype: "float32", counter: { a: 2, b: 1 },
    });
    expect(values["size"]).toBeInstanceOf(TorchSize);
    expect([...values["size"] as TorchSize]).toEqual([2, 3]);
    const [key] = (values["tuple_key"] as Map<unknown, unknown>).keys();
    expect(key).toBeInstanceOf(PythonTuple);
    expect([...values["index_keys"] as Map<string, number>]).toEqual([["10", 1], ["9", 2]]);
    expect([...values["none_key"] as Map<null, number>]).toEqual([[null, 1]]);
    expect([...(values["proto_key"] as Map<string, unknown>).keys()]).toEqual(["__proto__"]);
    const [first, second] = values["shared"] as unknown[];
    expect(first).toBe(second);
    expect(first).toBe((values["namespace"] as { gpus: unknown }).gpus);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  test("numpy arrays become tensors", async () => {
    const values = (await read(`values_protocol${protocol}.pth`)) as Record<string, TensorReference>;
    expect(values["numpy_array"]).toMatchObject({ dtype: "float32", size: [2, 3], stride: [3, 1] });
    expect(inlineElements(values["numpy_array"])).toEqual([0, 1, 2, 3, 4, 5]);
    expect(values["numpy_fortran"]).toMatchObject({ dtype: "int16", size: [2, 3], stride: [1, 2] });
    expect(inlineElements(values["numpy_fortran"])).toEqual([0, 1, 2, 3, 4, 5]);
    expect(values["numpy_big_endian"]).toMatchObject({ dtype: "int32", size: [2] });
    expect(inlineElements(values["numpy_big_endian"])).toEqual([1, 258]);
    expect(values["parameter"]).toMatchObject({ isParameter: true, requiresGrad: true });
  });
});

test("every dtype is read", async () => {
  const tensors = (await read("dtypes.pth")) as Record<string, TensorReference>;
  expect(Object.keys(tensors).sort()).toEqual(Object.keys(dtypes).sort());
  for (const [name, tensor] of Object.entries(tensors)) {
    expect(tensor).toMatchObject({ dtype: name, size: [3], stride: [1] });
    expect(tensor.storage).toBeInstanceOf(StorageReference);
    expect(tensor.storage.byteLength).toBe(3 * dtypes[tensor.dtype].itemSize);
  }
});
