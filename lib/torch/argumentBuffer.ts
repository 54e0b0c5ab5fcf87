import { native } from "../native.js";

// Arguments of operators travel through this buffer, see encode.ts: one call across the language border, with one integer.
let buffer = new Float64Array(native.argumentBuffer(1024));

/** The buffer that the next native call reads. */
export function argumentBuffer(): Float64Array {
  return buffer;
}

/** Makes room for at least `length` numbers; what was written stays. */
export function growArgumentBuffer(length: number): Float64Array {
  const grown = new Float64Array(native.argumentBuffer(2 ** Math.ceil(Math.log2(length))));
  grown.set(buffer);
  buffer = grown;
  return buffer;
}
