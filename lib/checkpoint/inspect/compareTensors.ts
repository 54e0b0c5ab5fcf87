import * as torch from "../../torch/index.js";
import { dtypes, type Tensor } from "../../torch/index.js";
import { asFloat64, forEachPiece } from "./pieces.js";

export interface Tolerance {
  /** Largest absolute difference that counts as equal. */
  atol: number;
  /** The same as a share of the second value's magnitude, on top. */
  rtol: number;
}

export interface TensorDifference {
  /** Elements that differ by more than the tolerance. */
  different: number;
  elements: number;
  /** Largest |a - b|; Infinity where only one of the two is NaN or infinite. */
  maxAbsolute: number;
  /** Largest |a - b| / max(|a|, |b|), from 0 to 2; Infinity as above. */
  maxRelative: number;
}

/**
 * Compares two tensors of one shape, element by element, in float64; a NaN equals a NaN, and an infinity itself. Integers are compared
 * exactly whatever their size.
 */
export function compareTensors(a: Tensor, b: Tensor, { atol, rtol }: Tolerance): TensorDifference {
  const result: TensorDifference = { different: 0, elements: a.numel(), maxAbsolute: 0, maxRelative: 0 };
  const exact = isWhole(a) && isWhole(b);
  const complex = isComplex(a) || isComplex(b);
  forEachPiece([a, b], (pair) => {
    const [left, right] = pair as [Tensor, Tensor];
    if (left.dtype === right.dtype && !left.dtype.startsWith("float8") && torch.equal(left, right)) return;
    const [x, y] = pair.map((piece) => (complex ? complexParts(piece) : asFloat64(piece))) as [Tensor, Tensor];
    const distance = exact ? asFloat64(left.to("int64").sub(right.to("int64"))).abs() : distanceBetween(x, y);
    // Of zeros the ratio is NaN, and so it is of infinities: these are as far apart as can be.
    const ratio = distance.div(torch.maximum(x.abs(), y.abs()));
    const relative = torch.where(distance.isinf(), distance, ratio.nanToNum(0));
    result.maxAbsolute = Math.max(result.maxAbsolute, distance.max().item());
    result.maxRelative = Math.max(result.maxRelative, relative.max().item());
    const far = rtol === 0 ? distance.gt(atol) : distance.gt(y.abs().mul(rtol).nanToNum(0, 0).add(atol));
    result.different += (complex ? far.reshape([-1, 2]).any(1) : far).sum().item();
  });
  return result;
}

/** |x - y|; 0 where both are NaN or the same infinity, and Infinity where only one is. */
function distanceBetween(x: Tensor, y: Tensor): Tensor {
  const distance = x.sub(y).abs();
  if (Number.isFinite(distance.sum().item())) return distance;
  const same = x.eq(y).logicalOr(x.isnan().logicalAnd(y.isnan()));
  return torch.where(same, torch.zeros([], { dtype: "float64" }), distance.nanToNum(Infinity, Infinity));
}

/** Whole numbers that int64 holds: float64 would take neighbours beyond 2^53 for equal. */
function isWhole({ dtype }: Tensor): boolean {
  return dtypes[dtype].kind === "int" && dtype !== "uint64";
}

function isComplex({ dtype }: Tensor): boolean {
  return dtypes[dtype].kind === "complex";
}

/** Elements as complex numbers, each as two of float64. */
function complexParts(piece: Tensor): Tensor {
  return torch.viewAsReal(piece.to("complex128")).reshape([-1]);
}
