/** Each key as often as its weight says, to `pick` from. */
export function weighted<K extends string>(weights: Readonly<Record<K, number>>): readonly K[] {
  return Object.entries<number>(weights).flatMap(([key, weight]) => new Array<K>(weight).fill(key as K));
}

/**
 * A small, fast generator of random numbers (sfc32), started from a seed and an input's number: input `i` of seed `s` is always the
 * same, whatever was made before it.
 */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number, index: number) {
    this.#a = seed | 0;
    this.#b = index | 0;
    this.#c = Math.floor(index / 2 ** 32) ^ 0x9e3779b9;
    for (let i = 0; i < 12; i++) this.bits();
  }

  /** 32 random bits, as an unsigned integer. */
  bits(): number {
    const t = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + t | 0;
    return t >>> 0;
  }

  /** An integer from 0 to `count` - 1. */
  below(count: number): number {
    return Math.floor((this.bits() / 2 ** 32) * count);
  }

  /** True in `percent` of 100 cases. */
  chance(percent: number): boolean {
    return this.bits() < percent * 42949672.96;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }


  /** 1, or now and then more: each further one with the given chance. */
  several(percent: number, most: number): number {
    let count = 1;
    while (count < most && this.chance(percent)) count++;
    return count;
  }

  /** An integer that programs get wrong: at the edge of a type, a sign, a power of two, or close to zero. */
  interesting(): number {
    switch (this.below(4)) {
      case 0: return this.below(20) - 3;
      case 1: return this.pick(edges) + this.below(3) - 1;
      case 2: return 2 ** this.below(54) * (this.chance(20) ? -1 : 1);
      default: return this.below(70_000);
    }
  }
}

const edges = [
  0, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2 ** 24, 2 ** 31, 2 ** 32, 2 ** 52, 2 ** 53, 2 ** 62, 2 ** 63, 2 ** 64, -1,
  -(2 ** 31), -(2 ** 63),
];
