import { Worker } from "node:worker_threads";
import { DataOptionError } from "../errors.js";
import { RandomStream, type RandomKey } from "../random.js";

/** Numbers of samples are unsigned 32-bit numbers, here and in the keys of random numbers. */
const mostSamples = 2 ** 32 - 1;

/** From here on drawing a permutation takes 15 ms and more, which a training step would feel; another thread does it. */
const threadFrom = 2 ** 18;

/** Which images a {@link Sampler} orders, and for how many processes. */
export interface SamplerOptions {
  seed: number;
  /** This process among `worldSize`, from 0. */
  rank?: number;
  worldSize?: number;
  /** A new order every epoch. Default true. */
  shuffle?: boolean;
  /** Leave out what does not divide evenly over the ranks, instead of repeating the first samples. Default false. */
  dropLast?: boolean;
  /**
   * How often each sample of an epoch comes, one time after the other, for repeated augmentation (Hoffer et al., 2020; DeiT's `RASampler`): the
   * epoch stays as long, so it has only every so many of the samples. Ranks take turns, so they share a sample's copies. Default 1.
   */
  repeats?: number;
}

/** @throws {DataOptionError} unless `rank` is one of `worldSize` processes, counted from 0. */
export function requireRank(rank: number, worldSize: number): void {
  if (!Number.isInteger(worldSize) || worldSize < 1) throw new DataOptionError(`worldSize is ${worldSize}; give a whole number from 1`);
  if (!Number.isInteger(rank) || rank < 0 || rank >= worldSize) {
    throw new DataOptionError(`rank is ${rank}; with worldSize ${worldSize} it is 0 to ${worldSize - 1}`);
  }
}

/** The samples of one rank in one epoch, in order. */
export interface EpochOrder {
  /** As the sampler's. */
  readonly length: number;
  /**
   * The sample at a position.
   *
   * @param position from 0 to `length - 1`
   * @throws {RangeError} for any other position.
   */
  at(position: number): number;
  /** Which of the sample's copies is at a position, from 0 to below `repeats`. Errors as `at`. */
  copyAt(position: number): number;
}

/**
 * Which samples a rank sees in an epoch, with the meaning of PyTorch's `DistributedSampler`: all ranks share one permutation per epoch
 * and take every `worldSize`-th sample of it; an uneven rest is padded with the permutation's beginning. So the local batches of a step
 * make up the same global batch for any number of ranks.
 *
 * An epoch takes 4 bytes of memory for each sample of the data set while its order is in use, and none without shuffling.
 *
 * @example
 * const order = await new Sampler(images.length, { seed: 0 }).order(epoch);
 * for (let position = 0; position < order.length; position++) use(order.at(position));
 */
export class Sampler {
  /** Samples per rank and epoch. */
  readonly length: number;
  readonly #datasetLength: number;
  readonly #seed: number;
  readonly #rank: number;
  readonly #worldSize: number;
  readonly #shuffle: boolean;
  readonly #repeats: number;

  /**
   * @param datasetLength from 0 to 2^32 - 1
   * @throws {DataOptionError} for a length, rank or world size outside its range.
   */
  constructor(datasetLength: number, options: SamplerOptions) {
    const { seed, rank = 0, worldSize = 1, shuffle = true, dropLast = false, repeats = 1 } = options;
    if (!Number.isInteger(datasetLength) || datasetLength < 0 || datasetLength > mostSamples) {
      throw new DataOptionError(
        `the data set has ${datasetLength} samples; the sampler takes 0 to ${mostSamples}: split a larger set into several`,
      );
    }
    requireRank(rank, worldSize);
    if (!Number.isInteger(repeats) || repeats < 1) throw new DataOptionError(`repeats is ${repeats}; give a whole number from 1`);
    this.#repeats = repeats;
    this.#datasetLength = datasetLength;
    this.#seed = seed;
    this.#rank = rank;
    this.#worldSize = worldSize;
    this.#shuffle = shuffle;
    this.length = dropLast ? Math.floor(datasetLength / worldSize) : Math.ceil(datasetLength / worldSize);
  }

  /**
   * The sample indices of an epoch. That of a large data set is drawn on another thread.
   *
   * @throws {DataOptionError} when there is no memory for a permutation of the data set.
   */
  async order(epoch: number): Promise<EpochOrder> {
    const permutation = this.#shuffle ? await permute({ seed: this.#seed, epoch, index: 0, stream: 0 }, this.#datasetLength) : null;
    return new StridedOrder(permutation, this.#datasetLength, this.#rank, this.#worldSize, this.length, this.#repeats);
  }
}

/** A rank's part of a permutation, or of 0, 1, 2 ..., which goes round when it ends. */
class StridedOrder implements EpochOrder {
  constructor(
    private readonly permutation: Uint32Array | null,
    private readonly datasetLength: number,
    private readonly rank: number,
    private readonly worldSize: number,
    readonly length: number,
    private readonly repeats: number,
  ) {}

  at(position: number): number {
    const place = Math.floor(this.#place(position) / this.repeats);
    return this.permutation ? this.permutation[place]! : place;
  }

  copyAt(position: number): number {
    return this.#place(position) % this.repeats;
  }

  #place(position: number): number {
    if (!(position >= 0 && position < this.length && Number.isInteger(position))) {
      throw new RangeError(`there is no position ${position}; the epoch has ${this.length}`);
    }
    return (this.rank + position * this.worldSize) % this.datasetLength;
  }
}

async function permute(key: RandomKey, length: number): Promise<Uint32Array> {
  if (length < threadFrom) return new RandomStream(key).permutation(length);
  let memory: SharedArrayBuffer;
  try {
    memory = new SharedArrayBuffer(4 * length);
  } catch (error) {
    throw new DataOptionError(
      `no memory for the order of ${length} samples (${(4 * length / 2 ** 30).toFixed(1)} GiB): ${(error as Error).message}; ` +
        "split the data set or use a machine with more memory",
      { cause: error },
    );
  }
  // Without the parent's flags: some, such as --input-type, are not allowed for a thread.
  const worker = new Worker(new URL("./permutationWorker.js", import.meta.url), {
    name: "moco sampler", workerData: { key, memory }, execArgv: [],
  });
  await new Promise<void>((resolve, reject) => {
    worker.once("error", reject);
    worker.once("exit", (code) => (code === 0 ? resolve() : reject(new Error(`the thread that draws the order ended with ${code}`))));
  });
  return new Uint32Array(memory);
}
