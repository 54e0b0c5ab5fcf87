/** What `moco bench micro-batch` asks of a process, and is told. */
export type MicroBatchRequest =
  /** Steps of one batch, whole or in chunks. */
  | { do: "step"; arch: string; imageSize: number; batch: number; chunk: number | null; threads: number; rounds: number }
  /** The gradients of a batch in chunks beside those of the whole batch; of images in a folder, or of noise. */
  | { do: "compare"; arch: string; imageSize: number; batch: number; chunks: readonly number[]; threads: number; data: string | null };

export interface StepAnswer {
  stepSeconds: number[];
  loss: number;
}

export interface Comparison {
  chunk: number;
  loss: number;
  wholeLoss: number;
  /** Of all parameters as one vector: the difference's length over the whole batch's, and the cosine between the two. */
  gradient: { relative: number; cosine: number };
  /** The parameter that differs most, among those with a thousandth of the gradient's length at least. */
  worst: { name: string; relative: number };
}
