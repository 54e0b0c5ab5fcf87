import type { Tensor } from "../../../lib/torch/index.js";

/** Keys in their order, with dtype, shape and bytes of each tensor: equal only for states that agree in every bit. */
export function bitsOf(state: ReadonlyMap<string, Tensor>): [string, string, string, string][] {
  return [...state].map(([key, tensor]) => [key, tensor.dtype, String(tensor.shape), Buffer.from(tensor.bytes()).toString("base64")]);
}
