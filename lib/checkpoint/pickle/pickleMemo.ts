import { cost } from "../limits.js";
import type { PickleContext } from "./pickleObjects.js";

/** Entries that may be left out in a row. Picklers number them one by one, from 0 or (that of Python 2) from 1. */
const LONGEST_GAP = 1000;

/** The unpickler's memo. */
export class PickleMemo {
  /** Undefined where there is none; no pickle can make that value. */
  readonly #entries: unknown[] = [];
  #count = 0;

  constructor(private readonly context: PickleContext) {}

  /** The number of entries, which is also the index that MEMOIZE takes. */
  get size(): number {
    return this.#count;
  }

  get(index: number): unknown {
    const value = this.#entries[index];
    if (value === undefined) this.context.fail(`memo entry ${index} was never set`);
    return value;
  }

  set(index: number, value: unknown): void {
    const { limits } = this.context;
    const gap = index - this.#entries.length;
    if (gap > LONGEST_GAP) this.context.fail(`memo entry ${index} is set when there are ${this.#entries.length}; no pickler does that`);
    if (index >= limits.memo) this.context.fail(`more than ${limits.memo} memo entries`);
    if (gap >= 0) this.context.charge(cost.memo * (gap + 1), "a memo entry");
    if (this.#entries[index] === undefined) this.#count++;
    while (this.#entries.length < index) this.#entries.push(undefined);
    this.#entries[index] = value;
  }
}
