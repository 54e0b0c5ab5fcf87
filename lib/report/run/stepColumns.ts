import type { StepEntry } from "../runLog.js";

/** What is kept of each step for charts. */
const columns = {
  loss: ({ loss }) => loss,
  lr: ({ lr }) => lr,
  momentum: ({ momentum }) => momentum,
  acc1: ({ acc1 }) => acc1,
  imagesPerSecond: ({ imagesPerSecond }) => imagesPerSecond,
  stepMs: ({ stepMs }) => stepMs,
  dataWait: ({ dataWaitMs, stepMs }) => (100 * dataWaitMs) / stepMs,
  scale: ({ scale }) => scale,
  gradientNorm: ({ gradientNorm }) => gradientNorm,
  stem: ({ signals }) => signals?.gradients?.stem,
  firstBlock: ({ signals }) => signals?.gradients?.blocks?.[0],
  lastBlock: ({ signals }) => signals?.gradients?.blocks?.at(-1),
  projector: ({ signals }) => signals?.gradients?.projector,
  predictor: ({ signals }) => signals?.gradients?.predictor,
  stemRatio: ({ signals }) => signals?.stemRatio,
  firstBlockRatio: ({ signals }) => signals?.firstBlockRatio,
  accuracy: ({ signals }) => signals?.contrast?.accuracy,
  positive: ({ signals }) => signals?.contrast?.positive,
  negative: ({ signals }) => signals?.contrast?.negative,
  querySpread: ({ signals }) => signals?.contrast?.querySpread,
  keySpread: ({ signals }) => signals?.contrast?.keySpread,
  lossOverChance: ({ signals }) => signals?.contrast?.lossOverChance,
  encoderDistance: ({ signals }) => signals?.encoderDistance,
} satisfies Record<string, (step: StepEntry) => number | null | undefined>;

export type ColumnName = keyof typeof columns;
export const columnNames = Object.keys(columns) as ColumnName[];

const firstCapacity = 1024;

/**
 * The figures of all steps, column by column: some 60 to 110 bytes a step, where its line in the log has 300 to 1,500. A column that a
 * run does not have takes no room.
 */
export class StepColumns {
  #length = 0;
  #capacity = firstCapacity;
  #steps = new Float64Array(firstCapacity);
  #hours = new Float64Array(firstCapacity);
  readonly #columns = new Map<ColumnName, Float32Array>();

  get length(): number {
    return this.#length;
  }

  /** The number of a row's step. */
  step(row: number): number {
    return this.#steps[row]!;
  }

  /** How long the steps up to this row took together. */
  hours(row: number): number {
    return this.#hours[row]!;
  }

  /** A row's figure; NaN where there is none. */
  value(name: ColumnName, row: number): number {
    return this.#columns.get(name)?.[row] ?? NaN;
  }

  has(name: ColumnName): boolean {
    return this.#columns.has(name);
  }

  /** @returns whether rows were given up for it, as where a run was resumed and does steps again */
  add(entry: StepEntry): boolean {
    const lost = this.truncate(entry.step);
    const row = this.#length;
    if (row === this.#capacity) this.#grow();
    this.#length++;
    this.#steps[row] = entry.step;
    const hours = Number.isFinite(entry.stepMs) ? entry.stepMs / 3_600_000 : 0;
    this.#hours[row] = hours + (row === 0 ? 0 : this.#hours[row - 1]!);
    for (const name of columnNames) {
      const value = columns[name](entry);
      const known = typeof value === "number" && Number.isFinite(value);
      let column = this.#columns.get(name);
      if (column === undefined) {
        if (!known) continue;
        column = new Float32Array(this.#capacity).fill(NaN);
        this.#columns.set(name, column);
      }
      column[row] = known ? value : NaN;
    }
    return lost;
  }

  /** Gives up what is known of this step and all after it. @returns whether there was something */
  truncate(step: number): boolean {
    const before = this.#length;
    while (this.#length > 0 && this.#steps[this.#length - 1]! >= step) this.#length--;
    return this.#length < before;
  }

  /** The first row of a step that is not before this one. */
  rowOf(step: number): number {
    let [low, high] = [0, this.#length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#steps[middle]! < step) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #grow(): void {
    this.#capacity *= 2;
    const larger = <T extends Float32Array | Float64Array>(old: T, fresh: T): T => {
      fresh.set(old);
      return fresh;
    };
    this.#steps = larger(this.#steps, new Float64Array(this.#capacity));
    this.#hours = larger(this.#hours, new Float64Array(this.#capacity));
    for (const [name, column] of this.#columns) this.#columns.set(name, larger(column, new Float32Array(this.#capacity).fill(NaN)));
  }
}
