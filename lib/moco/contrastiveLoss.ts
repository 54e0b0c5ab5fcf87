import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";

/** Gives every process the keys of all, so that they serve as negatives for each other's queries. */
export interface KeyGatherer {
  /** Place of this process's keys among the gathered ones. */
  readonly rank: number;
  /** Keys `[N, dim]` of this process to the keys `[N * processes, dim]` of all, by rank. Called without autograd. */
  gather(keys: Tensor): Tensor;
}

/** One process: its own keys are all there are. */
export const singleProcess: KeyGatherer = { rank: 0, gather: (keys) => keys };

/** What a loss has compared, without graph; freed when the observer returns, but for what it keeps. */
export interface Contrast {
  /** `[N, dim]`, of unit length. */
  queries: Tensor;
  /** `[N * processes, dim]`, of unit length, by rank. */
  keys: Tensor;
  /** `[N, N * processes]`, similarities over the temperature. */
  logits: Tensor;
  /** `[N]` int64: which key is the query's own. */
  labels: Tensor;
  /** The mean loss, a scalar. */
  loss: Tensor;
  /** Of this process among those whose keys were gathered. */
  rank: number;
}

/** Sees each contrast of a step; called without autograd. */
export type ContrastObserver = (contrast: Contrast) => void;

/**
 * InfoNCE: which of all keys belongs to a query? The other images' keys of the same batch are the negatives.
 *
 * `2 * temperature * crossEntropy(cos(q, k) / temperature, index of the query's own key)`. The factor keeps the size of the gradient when the
 * temperature changes (BYOL's loss has it too). Computed in float32 or float64, also under autocast: bfloat16 has three digits, and a
 * temperature of 0.2 magnifies their error.
 *
 * @param queries `[N, dim]`, any length
 * @param keys `[N, dim]`, any length, no gradient
 * @param observer is shown what was compared
 * @returns the mean over the batch, a scalar with a graph
 */
export function contrastiveLoss(
  queries: Tensor, keys: Tensor, temperature: number, gatherer: KeyGatherer = singleProcess, observer: ContrastObserver | null = null,
): Tensor {
  return torch.autocast({ device: queries.device.split(":")[0], enabled: false }, () =>
    torch.scope(() => {
      const q = normalize(queries);
      const k = torch.noGrad(() => gatherer.gather(normalize(keys)));
      const logits = q.matmul(k.t()).div_(temperature); // [N, N * processes], the largest of all: in place, as the product's gradient needs no output
      const n = queries.shape[0];
      const labels = torch.arange(n * gatherer.rank, n * (gatherer.rank + 1), { dtype: "int64", device: queries.device }); // [N]
      const loss = torch.crossEntropyLoss(logits, labels).mul(2 * temperature);
      if (observer !== null) {
        torch.noGrad(() => torch.scope(() => {
          observer({ queries: q.detach(), keys: k, logits: logits.detach(), labels, loss: loss.detach(), rank: gatherer.rank });
        }));
      }
      return loss;
    }),
  );
}

/** Rows of unit length, in at least float32; a row of zeros stays zero. */
function normalize(features: Tensor): Tensor {
  const full = features.dtype === "float64" ? features : features.to("float32");
  return full.div(torch.linalgVectorNorm(full, 2, [1], true).clampMin(1e-12));
}
