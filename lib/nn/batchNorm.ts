import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { Module } from "./module.js";

/** As in PyTorch. */
export interface BatchNormOptions {
  /** Added to the variance. */
  eps?: number;
  /** Share of the new batch in the running statistics. */
  momentum?: number;
  /** Learn a scale and a shift per channel. MoCo's last projector and predictor layers have neither. */
  affine?: boolean;
}

/** What a {@link BatchNorm} normalises with in training. */
export interface BatchNormState {
  weight: Tensor | null;
  bias: Tensor | null;
  /** To be moved towards the batch's statistics. */
  runningMean: Tensor;
  runningVar: Tensor;
  momentum: number;
  eps: number;
}

/** Normalises in training where this process has only a part of the batch: with the statistics of all parts. */
export interface BatchNormSynchronizer {
  /** @param x `[N, C, ...]`; the result has the same shape and type */
  normalize(x: Tensor, state: BatchNormState): Tensor;
}

/** Batch normalisation was asked to normalise single values. */
export class BatchNormError extends Error {
  override readonly name = "BatchNormError";
}

/**
 * Normalises each channel (dimension 1) over all others. In training it uses the batch's statistics and folds them into the running ones
 * (the variance unbiased there, as PyTorch does); in evaluation it uses the running ones.
 */
export abstract class BatchNorm extends Module {
  readonly weight: Tensor | null; // [channels]
  readonly bias: Tensor | null; // [channels]
  readonly runningMean: Tensor; // [channels]
  readonly runningVar: Tensor; // [channels]
  readonly numBatchesTracked: Tensor; // int64, no dimensions
  /** Set where several processes share each batch; see `synchronizeBatchNorm`. */
  synchronizer: BatchNormSynchronizer | null = null;
  readonly #eps: number;
  readonly #momentum: number;
  /** Dimensions of an input that this kind takes. */
  protected abstract readonly ranks: readonly number[];

  constructor(readonly channels: number, { eps = 1e-5, momentum = 0.1, affine = true }: BatchNormOptions = {}) {
    super();
    this.weight = affine ? this.parameter("weight", torch.ones([channels])) : null;
    this.bias = affine ? this.parameter("bias", torch.zeros([channels])) : null;
    this.runningMean = this.buffer("running_mean", torch.zeros([channels]));
    this.runningVar = this.buffer("running_var", torch.ones([channels]));
    this.numBatchesTracked = this.buffer("num_batches_tracked", torch.zeros([], { dtype: "int64" }));
    this.#eps = eps;
    this.#momentum = momentum;
  }

  forward(x: Tensor): Tensor {
    const { shape } = x;
    if (!this.ranks.includes(shape.length)) {
      throw new BatchNormError(
        `${this.constructor.name} takes an input of ${this.ranks.join(" or ")} dimensions, and got shape [${shape}]: reshape the input.`,
      );
    }
    if (this.training && this.synchronizer !== null) {
      this.numBatchesTracked.add_(1);
      const { weight, bias, runningMean, runningVar } = this;
      return this.synchronizer.normalize(x, { weight, bias, runningMean, runningVar, momentum: this.#momentum, eps: this.#eps });
    }
    if (this.training) {
      // One value per channel would normalise to exactly zero and make the unbiased variance infinite.
      if (shape.reduce((product, size) => product * size, 1) === shape[1]) {
        throw new BatchNormError(
          `${this.constructor.name} got shape [${shape}]: training needs several values per channel. Use a batch of at least 2, or eval().`,
        );
      }
      this.numBatchesTracked.add_(1);
    }
    return torch.batchNorm(
      x, this.weight, this.bias, this.runningMean, this.runningVar, this.training, this.#momentum, this.#eps, true,
    );
  }
}

/** Batch normalisation of `[N, C]` or `[N, C, L]`. */
export class BatchNorm1d extends BatchNorm {
  protected readonly ranks = [2, 3];
}

/** Batch normalisation of `[N, C, H, W]`. */
export class BatchNorm2d extends BatchNorm {
  protected readonly ranks = [4];
}
