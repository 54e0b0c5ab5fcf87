import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";

/** Directions in which rows differ most. */
export interface PrincipalComponents {
  /** Directions of length 1, the one of the largest variance first: `[count, dim]`, row by row. */
  directions: Float64Array;
  /** Each row's coordinates along them: `[rows, count]`, row by row. */
  coordinates: Float64Array;
  /** Of the whole variance, by direction; zeros where all rows are the same. */
  shares: number[];
  count: number;
}

/**
 * Principal component analysis of rows `[N, dim]`, in float64: eigenvectors of their covariance. A direction's sign is chosen so that its
 * largest number is positive, for pictures that do not flip from run to run.
 *
 * @param wanted directions; fewer where there are not so many dimensions
 */
export function principalComponents(rows: Tensor, wanted: number): PrincipalComponents {
  const [n, dim] = rows.shape as [number, number];
  const count = Math.min(wanted, dim);
  return torch.noGrad(() => torch.scope(() => {
    const all = rows.detach().to("cpu").to("float64");
    const centred = all.sub(all.mean([0], true)); // [N, dim]
    const covariance = centred.t().mm(centred).div(Math.max(1, n - 1)); // [dim, dim]
    const [variances, vectors] = torch.linalgEigh(covariance); // ascending; vectors are columns
    const found = vectors.narrow(1, dim - count, count).flip([1]).t().contiguous(); // [count, dim]
    const largest = found.gather(1, found.abs().argmax(1, true)); // [count, 1]
    const directions = found.mul(torch.where(largest.lt(0), torch.full([1], -1, { dtype: "float64" }), torch.ones([1], { dtype: "float64" })));
    const total = variances.clamp(0).sum().item();
    const ordered = Array.from(variances.flip([0]).narrow(0, 0, count).data() as Float64Array);
    return {
      directions: directions.contiguous().data() as Float64Array,
      coordinates: centred.mm(directions.t()).contiguous().data() as Float64Array,
      shares: ordered.map((variance) => (total > 0 ? Math.max(0, variance) / total : 0)),
      count,
    };
  }));
}
