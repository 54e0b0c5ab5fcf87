import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import type { Contrast } from "./contrastiveLoss.js";

/** How well a batch's queries find their keys, and how spread out the features are. */
export interface ContrastFigures {
  /** Share of the queries whose own key is the nearest of all. */
  accuracy: number;
  /** Mean cosine of queries and their own keys. */
  positive: number;
  /** Mean cosine of queries and all other keys. */
  negative: number;
  /**
   * Standard deviation of a coordinate of the unit-length queries over the batch, mean over the coordinates: 1/√dim where they lie all
   * around, 0 where all are the same, which is collapse (Chen and He, 2021, "Exploring Simple Siamese Representation Learning", section 4.1).
   */
  queryStd: number;
  /** The same of the keys. */
  keyStd: number;
  loss: number;
}

/** Length of what {@link contrastStatistics} gives. */
export const STATISTICS_OF_A_CONTRAST = 6;

/**
 * A contrast in six numbers on its device: `[6]`, to be read with {@link readContrastStatistics}.
 *
 * Each is a mean over the batch, or linear in one, so that the mean over processes is that of the whole batch; but for the two standard
 * deviations, which are means of those of each process's part.
 */
export function contrastStatistics({ queries, keys, logits, labels, loss, rank }: Contrast): Tensor {
  return torch.noGrad(() => torch.scope(() => {
    const [n] = queries.shape as [number];
    const nearest = logits.argmax(1).eq(labels).to(logits.dtype).mean();
    const ownLogit = logits.diagonal(n * rank).mean();
    const spread = (rows: Tensor): Tensor => rows.std(0).mean();
    return torch.stack([nearest, ownLogit, logits.mean(), spread(queries), spread(keys.narrow(0, n * rank, n)), loss]);
  }));
}

/**
 * @param values the six numbers, of one contrast or means of several of one size
 * @param keys keys that each query was compared with
 */
export function readContrastStatistics(values: readonly number[], { keys, temperature }: { keys: number; temperature: number }): ContrastFigures {
  const [accuracy, ownLogit, meanLogit, queryStd, keyStd, loss] = values as [number, number, number, number, number, number];
  const negative = (temperature * (keys * meanLogit - ownLogit)) / (keys - 1);
  return { accuracy, positive: temperature * ownLogit, negative, queryStd, keyStd, loss };
}
