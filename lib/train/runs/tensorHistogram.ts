import type { Histogram } from "../../report/index.js";
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";

/** TensorBoard draws 30 or so. */
const BINS = 32;

/**
 * How a tensor's values are spread; null where it is empty or some are not finite. On a GPU it needs no operator that `deterministic` trainings
 * forbid.
 */
export function tensorHistogram(tensor: Tensor, bins = BINS): Histogram | null {
  const count = tensor.shape.reduce((product, size) => product * size, 1);
  if (count === 0) return null;
  return torch.noGrad(() => torch.scope(() => {
    const values = tensor.detach().reshape([-1]).to("float32");
    const [least, most] = values.aminmax();
    const [min, max, sum, sumOfSquares] = torch.stack([least, most, values.sum(), values.dot(values)]).data() as Float32Array;
    if (![min, max, sum, sumOfSquares].every(Number.isFinite)) return null;
    const moments = { min: min!, max: max!, count, sum: sum!, sumOfSquares: sumOfSquares! };
    const width = (moments.max - moments.min) / bins;
    // All the same, or as good as: less apart than float32 tells.
    if (!(width > Number.EPSILON * Math.max(Math.abs(moments.min), Math.abs(moments.max)))) return { ...moments, limits: [moments.max], counts: [count] };
    const index = values.sub(moments.min).mul_(1 / width).clamp_(0, bins - 1).to("int64");
    const counts = Array.from(index.bincount(null, bins).data() as BigInt64Array, Number);
    const limits = Array.from({ length: bins }, (_, bin) => (bin === bins - 1 ? moments.max : moments.min + (bin + 1) * width));
    return { ...moments, limits, counts };
  }));
}
