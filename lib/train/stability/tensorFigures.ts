import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";

/** What a tensor holds, in figures. */
export interface TensorFigures {
  dtype: string;
  shape: readonly number[];
  nan: number;
  infinite: number;
  /** Of the finite values; null where there are none. */
  min: number | null;
  max: number | null;
  /** Largest magnitude that the dtype has. */
  limit: number;
}

const LIMITS: Readonly<Record<string, number>> = { float16: 65504, bfloat16: 3.3895e38, float32: 3.4028e38, float64: 1.7977e308 };

export function isFinite(tensor: Tensor): boolean {
  if (!tensor.dtype.includes("float") || tensor.numel() === 0) return true;
  return torch.noGrad(() => torch.scope(() => Boolean(tensor.detach().isfinite().all().item())));
}

export function tensorFigures(tensor: Tensor): TensorFigures {
  const { dtype, shape } = tensor;
  return torch.noGrad(() => torch.scope(() => {
    const values = tensor.detach();
    const count = (mask: Tensor): number => Number(mask.sum().item());
    const [nan, infinite] = [count(torch.isnan(values)), count(torch.isinf(values))];
    const finite = values.isfinite();
    const any = nan + infinite < values.numel();
    const bound = (other: number): Tensor => torch.where(finite, values, torch.full([], other, { dtype, device: tensor.device }));
    const limit = LIMITS[dtype] ?? Infinity;
    return {
      dtype, shape: [...shape], nan, infinite, limit,
      min: any ? Number(bound(Infinity).min().item()) : null, max: any ? Number(bound(-Infinity).max().item()) : null,
    };
  }));
}

/** In words: `float16[32, 197, 1536]: 17 infinite, the rest from -6.1e+4 to 6.0e+4 (its largest number is 65504)`. */
export function describeFigures({ dtype, shape, nan, infinite, min, max, limit }: TensorFigures): string {
  const bad = [...(nan > 0 ? [`${nan} not a number`] : []), ...(infinite > 0 ? [`${infinite} infinite`] : [])];
  const rest = min === null ? "" : `${bad.length > 0 ? ", the rest " : ""}from ${min.toPrecision(3)} to ${max!.toPrecision(3)}`;
  return `${dtype}[${shape.join(", ")}]: ${bad.join(", ")}${rest} (the largest ${dtype} is ${limit})`;
}
