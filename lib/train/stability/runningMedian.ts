/** Values that are enough to tell what is usual: before, nothing is called unusual. */
export const LEAST_VALUES = 20;
/** A hundred steps: short enough to follow a training as it changes, long enough that a few outliers do not move the median. */
const WINDOW = 100;

/** The median of the last values of a series. */
export class RunningMedian {
  readonly #values: number[] = [];

  /** What is usual, or null before there are {@link LEAST_VALUES} values. */
  get median(): number | null {
    return this.#values.length < LEAST_VALUES ? null : median(this.#values);
  }

  add(value: number): void {
    if (this.#values.push(value) > WINDOW) this.#values.shift();
  }

  /** The values, to go on from. */
  toJSON(): number[] {
    return this.#values;
  }

  restore(values: readonly number[]): void {
    this.#values.splice(0, Infinity, ...values);
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
