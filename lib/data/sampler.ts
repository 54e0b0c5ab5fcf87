import { DataOptionError } from "./errors.js";
import { RandomStream } from "./random.js";

export interface SamplerOptions {
  seed: number;
  /** This process among `worldSize`, from 0. */
  rank?: number;
  worldSize?: number;
  /** A new order every epoch. Default true. */
  shuffle?: boolean;
  /** Leave out what does not divide evenly over the ranks, instead of repeating the first samples. Default false. */
  dropLast?: boolean;
}

/**
 * Which samples a rank sees in an epoch, with the meaning of PyTorch's `DistributedSampler`: all ranks share one permutation per epoch
 * and take every `worldSize`-th sample of it; an uneven rest is padded with the permutation's beginning.
 */
export class Sampler {
  /** Samples per rank and epoch. */
  readonly length: number;
  readonly #datasetLength: number;
  readonly #seed: number;
  readonly #rank: number;
  readonly #worldSize: number;
  readonly #shuffle: boolean;

  constructor(datasetLength: number, options: SamplerOptions) {
    const { seed, rank = 0, worldSize = 1, shuffle = true, dropLast = false } = options;
    if (!Number.isInteger(worldSize) || worldSize < 1) throw new DataOptionError(`worldSize is ${worldSize}; give a whole number from 1`);
    if (!Number.isInteger(rank) || rank < 0 || rank >= worldSize) {
      throw new DataOptionError(`rank is ${rank}; with worldSize ${worldSize} it is 0 to ${worldSize - 1}`);
    }
    this.#datasetLength = datasetLength;
    this.#seed = seed;
    this.#rank = rank;
    this.#worldSize = worldSize;
    this.#shuffle = shuffle;
    this.length = dropLast ? Math.floor(datasetLength / worldSize) : Math.ceil(datasetLength / worldSize);
  }

  /** The sample indices of an epoch, in order. */
  order(epoch: number): Uint32Array {
    const all = this.#shuffle
      ? new RandomStream({ seed: this.#seed, epoch, index: 0, stream: 0 }).permutation(this.#datasetLength)
      : Uint32Array.from({ length: this.#datasetLength }, (_, i) => i);
    if (this.#worldSize === 1) return all;
    const own = new Uint32Array(this.length);
    for (let i = 0; i < own.length; i++) own[i] = all[(this.#rank + i * this.#worldSize) % this.#datasetLength]!;
    return own;
  }
}
