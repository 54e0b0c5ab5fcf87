import * as torch from "../../torch/index.js";
import { dtypes } from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import { asFloat64, forEachPiece } from "./pieces.js";

export interface Statistics {
  /** NaN without elements; null for complex numbers. */
  mean: number | null;
  /** Population standard deviation (divided by n, as numpy's); NaN without elements or with values that are not finite; null for complex numbers. */
  std: number | null;
  /** Number of values that are NaN. */
  nan: number;
  /** Number of values that are infinite. */
  infinite: number;
}

/**
 * Mean and standard deviation of a tensor of any dtype and layout, accumulated in float64. Takes some 10 MB of memory, however large the
 * tensor is. Booleans count as 0 and 1.
 */
export function statisticsOf(tensor: Tensor): Statistics {
  if (dtypes[tensor.dtype].kind === "complex") return { mean: null, std: null, ...countComplex(tensor) };
  let count = 0;
  let sum = 0;
  let mean = 0; // of the pieces so far
  let squares = 0; // sum of squared distances from it
  let nan = 0;
  let infinite = 0;
  forEachPiece([tensor], ([piece]) => {
    const values = asFloat64(piece as Tensor);
    const n = values.numel();
    const pieceSum = values.sum().item();
    const pieceMean = pieceSum / n;
    const distances = values.sub(pieceMean);
    const pieceSquares = distances.dot(distances).item();
    if (!Number.isFinite(pieceSum)) {
      nan += values.isnan().sum().item();
      infinite += values.isinf().sum().item();
    }
    // Chan, Golub and LeVeque 1979: the pairwise rule, which loses no digits where the mean is large.
    const delta = pieceMean - mean;
    squares += pieceSquares + (delta * delta * count * n) / (count + n);
    mean += (delta * n) / (count + n);
    count += n;
    sum += pieceSum;
  });
  if (count === 0) return { mean: NaN, std: NaN, nan, infinite };
  return { mean: sum / count, std: Math.sqrt(squares / count), nan, infinite };
}

function countComplex(tensor: Tensor): { nan: number; infinite: number } {
  let nan = 0;
  let infinite = 0;
  forEachPiece([tensor], ([piece]) => {
    const values = (piece as Tensor).to("complex128");
    nan += values.isnan().sum().item();
    infinite += values.isinf().sum().item();
  });
  return { nan, infinite };
}

/** How many elements are zero or below. */
export function countNotPositive(tensor: Tensor): number {
  return torch.scope(() => asFloat64(tensor.detach()).le(0).sum().item());
}
