/** Comparison with golden data: arrays element by element, or by a digest where the array itself is too large to keep. */

import type { Tensor } from "../../lib/torch/index.js";

type Numbers = ArrayLike<number>;

/** A tensor's values as doubles, in C order. */
export function numbers(tensor: Tensor): Float64Array {
  const data = tensor.data();
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) return Float64Array.from(data as BigInt64Array, Number);
  return new Float64Array(data);
}

/** Sums and samples of a tensor, as the golden files hold them. */
export interface Digest {
  shape: number[];
  dtype: string;
  sum: number;
  abs_sum: number;
  sq_sum: number;
  min: number;
  max: number;
  sample_index: number[];
  sample: number[];
}

/** Largest absolute difference over the largest magnitude expected. */
export function maxRelative(found: Numbers, expected: Numbers): number {
  requireSameLength(found, expected);
  let difference = 0;
  let magnitude = 0;
  for (let i = 0; i < expected.length; i++) {
    difference = greater(difference, Math.abs((found[i] as number) - (expected[i] as number)));
    magnitude = Math.max(magnitude, Math.abs(expected[i] as number));
  }
  return magnitude === 0 ? difference : difference / magnitude;
}

/** Largest absolute difference. */
export function maxAbsolute(found: Numbers, expected: Numbers): number {
  requireSameLength(found, expected);
  let difference = 0;
  for (let i = 0; i < expected.length; i++) difference = greater(difference, Math.abs((found[i] as number) - (expected[i] as number)));
  return difference;
}

/** Euclidean length of the difference over that of the expected array. */
export function relativeL2(found: Numbers, expected: Numbers): number {
  requireSameLength(found, expected);
  let difference = 0;
  let magnitude = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += ((found[i] as number) - (expected[i] as number)) ** 2;
    magnitude += (expected[i] as number) ** 2;
  }
  return magnitude === 0 ? Math.sqrt(difference) : Math.sqrt(difference / magnitude);
}

/**
 * How far an array is from a digest, in units of the tolerance: the largest of |sum - sum'| / abs_sum, the relative error of √sq_sum, and
 * the samples' errors over ten times the root mean square. At most the tolerance when the arrays agree.
 */
export function digestError(found: Numbers, expected: Digest): number {
  const count = found.length;
  let sum = 0;
  let squares = 0;
  for (let i = 0; i < count; i++) {
    sum += found[i] as number;
    squares += (found[i] as number) ** 2;
  }
  const over = (difference: number, scale: number): number => (difference === 0 ? 0 : Math.abs(difference) / scale);
  const rootMeanSquare = Math.sqrt(expected.sq_sum / count);
  const length = Math.sqrt(expected.sq_sum);
  let worst = Math.max(over(sum - expected.sum, expected.abs_sum), over(Math.sqrt(squares) - length, length));
  expected.sample_index.forEach((index, j) => {
    worst = greater(worst, over((found[index] as number) - (expected.sample[j] as number), 10 * rootMeanSquare));
  });
  return worst;
}

/** `Math.max` in which NaN wins, so that a NaN never passes for agreement. */
function greater(a: number, b: number): number {
  return b <= a ? a : b;
}

function requireSameLength(found: Numbers, expected: Numbers): void {
  if (found.length !== expected.length) throw new RangeError(`${found.length} values found, ${expected.length} expected`);
}
