import { cost } from "./limits.js";
import type { PickleContext } from "./pickleObjects.js";

/**
 * The unpickler's memo. Picklers number its entries from 0 on, so that an array holds them; what stands elsewhere, as only a hostile
 * file's does, goes into a map, which takes ten times the memory.
 */
export class PickleMemo {
  readonly #dense: unknown[] = [];
  readonly #sparse = new Map<number, unknown>();

  constructor(private readonly context: PickleContext) {}

  /** The number of entries, which is also the index that MEMOIZE takes. */
  get size(): number {
    return this.#dense.length + this.#sparse.size;
  }

  get(index: number): unknown {
    if (index < this.#dense.length) return this.#dense[index];
    const value = this.#sparse.get(index);
    // Null is a value; undefined is none that a pickle can make.
    if (value === undefined) this.context.fail(`memo entry ${index} was never set`);
    return value;
  }

  set(index: number, value: unknown): void {
    if (index < this.#dense.length) {
      this.#dense[index] = value;
      return;
    }
    const { limits } = this.context;
    const isNew = !this.#sparse.has(index);
    if (isNew && this.size >= limits.memo) this.context.fail(`more than ${limits.memo} memo entries`);
    if (index === this.#dense.length) {
      this.context.charge(cost.memo, "a memo entry");
      this.#sparse.delete(index);
      this.#dense.push(value);
      return;
    }
    if (isNew) this.context.charge(cost.sparseMemo, "a memo entry");
    this.#sparse.set(index, value);
  }
}
