/**
 * Counter-based random numbers: Philox 4x32 with ten rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 *
 * A number depends only on its key (seed, epoch, sample, stream) and its place in the stream, so the order in which threads, ranks or
 * restarts ask for numbers cannot change them.
 */

/** What the numbers are for; each has its own streams, so that drawing more for one purpose does not shift another. */
export interface RandomKey {
  /** Whole number from 0 to 2^53 - 1. */
  seed: number;
  epoch: number;
  /** Sample index, or 0. */
  index: number;
  /** Which of the sample's streams. */
  stream: number;
}

const { floor, imul } = Math;

/** High 32 bits of the product of two unsigned 32-bit numbers. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff, aHigh = a >>> 16, bLow = b & 0xffff, bHigh = b >>> 16;
  const low = aLow * bLow;
  const middle = aHigh * bLow + (low >>> 16); // below 2^32
  const cross = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + floor(middle / 65536) + (cross >>> 16)) >>> 0;
}

/**
 * The Philox 4x32-10 block function: a 128-bit counter and a 64-bit key to 128 random bits, written over `counter`.
 *
 * @param counter four unsigned 32-bit words, replaced by the result
 */
export function philox(counter: Uint32Array | number[], keyLow: number, keyHigh: number): void {
  let c0 = counter[0]!, c1 = counter[1]!, c2 = counter[2]!, c3 = counter[3]!;
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(0xd2511f53, c0), low0 = imul(0xd2511f53, c0) >>> 0;
    const high1 = multiplyHigh(0xcd9e8d57, c2), low1 = imul(0xcd9e8d57, c2) >>> 0;
    c0 = (high1 ^ c1 ^ keyLow) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ keyHigh) >>> 0;
    c3 = low0;
    keyLow = (keyLow + 0x9e3779b9) >>> 0;
    keyHigh = (keyHigh + 0xbb67ae85) >>> 0;
  }
  counter[0] = c0;
  counter[1] = c1;
  counter[2] = c2;
  counter[3] = c3;
}

/** Where `permutation` keeps its next exchanges. Made once: a new one each time costs more than a permutation of four. */
const places = new Uint32Array(2048);

/** A stream of random numbers for one key. */
export class RandomStream {
  readonly #key: RandomKey;
  readonly #keyLow: number;
  readonly #keyHigh: number;
  readonly #words = [0, 0, 0, 0]; // an array: a typed one costs more than the ten rounds
  #block = 0;
  #used = 4;

  constructor(key: RandomKey) {
    if (!Number.isSafeInteger(key.seed) || key.seed < 0) {
      throw new RangeError(`the seed is ${key.seed}; give a whole number from 0 to ${Number.MAX_SAFE_INTEGER}`);
    }
    this.#key = key;
    this.#keyLow = key.seed >>> 0;
    this.#keyHigh = floor(key.seed / 2 ** 32);
  }

  /** A whole number from 0 to 2^32 - 1. */
  uint32(): number {
    if (this.#used === 4) {
      const words = this.#words;
      words[0] = this.#block++;
      words[1] = this.#key.stream;
      words[2] = this.#key.index;
      words[3] = this.#key.epoch;
      philox(words, this.#keyLow, this.#keyHigh);
      this.#used = 0;
    }
    return this.#words[this.#used++]!;
  }

  /** A number from `low` to below `high`, with 53 random bits. */
  uniform(low = 0, high = 1): number {
    const top = this.uint32() >>> 5;
    const bottom = this.uint32() >>> 6;
    return low + ((top * 2 ** 26 + bottom) / 2 ** 53) * (high - low);
  }

  /** A whole number from 0 to `bound - 1`. */
  integer(bound: number): number {
    return floor(this.uniform() * bound);
  }

  /** True with the given probability; 1 is always, 0 never. */
  chance(probability: number): boolean {
    return this.uniform() < probability;
  }

  /**
   * The numbers 0 to `length - 1` in random order (Fisher-Yates).
   *
   * @param order where to write them; at least `length` long
   */
  permutation(length: number, order: Uint32Array = new Uint32Array(length)): Uint32Array {
    // First many places, then many exchanges: the processor then waits for many places of a large array at once, not for one.
    for (let start = 0; start < length; start += places.length) {
      const count = Math.min(places.length, length - start);
      for (let k = 0; k < count; k++) places[k] = this.integer(start + k + 1);
      for (let k = 0; k < count; k++) {
        const place = places[k]!;
        order[start + k] = order[place]!;
        order[place] = start + k;
      }
    }
    return order;
  }
}
