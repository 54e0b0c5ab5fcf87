const perBlock = 1 << 16;

/** A growing list of whole numbers below 2^32, four bytes each. Growing copies nothing. */
export class PackedNumbers {
  readonly #blocks: Uint32Array[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Memory in bytes. */
  get byteLength(): number {
    return this.#blocks.length * perBlock * Uint32Array.BYTES_PER_ELEMENT;
  }

  /** A number; `index` must be below `length`. */
  at(index: number): number {
    return this.#blocks[Math.floor(index / perBlock)]![index % perBlock]!;
  }

  set(index: number, value: number): void {
    this.#blocks[Math.floor(index / perBlock)]![index % perBlock] = value;
  }

  /** Adds a number, `count` times. */
  push(value: number, count = 1): void {
    while (count > 0) {
      const within = this.#length % perBlock;
      if (within === 0) this.#blocks.push(new Uint32Array(perBlock));
      const added = Math.min(count, perBlock - within);
      this.#blocks.at(-1)!.fill(value, within, within + added);
      this.#length += added;
      count -= added;
    }
  }
}
