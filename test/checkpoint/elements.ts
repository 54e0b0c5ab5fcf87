import { bfloat16ToFloat32, dtypes, float16ToFloat32 } from "../../lib/torch/dtype.js";
import type { TensorReference } from "../../lib/checkpoint/references.js";

/** A tensor's elements in C order, from its storage's bytes. Independent of the native library. */
export function elementsInOrder(tensor: TensorReference, storage: Uint8Array): (number | bigint)[] {
  const values = storageElements(tensor, storage);
  const out: (number | bigint)[] = [];
  const visit = (dimension: number, index: number): void => {
    if (dimension === tensor.size.length) {
      out.push(values[index] as number | bigint);
      return;
    }
    for (let i = 0; i < (tensor.size[dimension] as number); i++) visit(dimension + 1, index + i * (tensor.stride[dimension] as number));
  };
  visit(0, tensor.offset);
  return out.map((value) => (typeof value === "bigint" && Number.isSafeInteger(Number(value)) ? Number(value) : value));
}

function storageElements(tensor: TensorReference, storage: Uint8Array): ArrayLike<number | bigint> {
  const { typedArray, kind } = dtypes[tensor.dtype];
  const copy = Uint8Array.from(storage).buffer;
  if (tensor.dtype === "float16") return float16ToFloat32(new Uint16Array(copy));
  if (tensor.dtype === "bfloat16") return bfloat16ToFloat32(new Uint16Array(copy));
  if (typedArray === null || kind === "complex") throw new Error(`no elements for ${tensor.dtype}`);
  return new typedArray(copy);
}
