/** Strings of a block, so that growing never copies more than this and no buffer comes near the engine's limit. */
const perBlock = 1 << 16;

/** Strings one after the other as UTF-8, and where each ends. */
export interface StringBlock {
  readonly bytes: Buffer;
  readonly ends: Uint32Array;
}

/**
 * A list of strings in few large buffers: four bytes a string beside its UTF-8, where an array of strings takes about thirty and gives the
 * garbage collector as many objects to follow.
 */
export class PackedStrings {
  readonly #full: StringBlock[] = [];
  #bytes: Buffer;
  #ends: Uint32Array;
  /** Strings and bytes in the block that is being filled. */
  #count = 0;
  #used = 0;

  private constructor(bytes: Buffer, ends: Uint32Array) {
    this.#bytes = bytes;
    this.#ends = ends;
  }

  static empty(): PackedStrings {
    return new PackedStrings(Buffer.alloc(0), new Uint32Array(0));
  }

  static of(strings: readonly string[]): PackedStrings {
    const packed = PackedStrings.empty();
    packed.push(strings);
    return packed;
  }

  static ofBytes(strings: readonly Buffer[]): PackedStrings {
    const packed = PackedStrings.empty();
    for (const bytes of strings) packed.append({ bytes, ends: Uint32Array.of(bytes.length) });
    return packed;
  }

  get length(): number {
    return this.#full.length * perBlock + this.#count;
  }

  /** Memory in bytes. */
  get byteLength(): number {
    const bytes = (block: StringBlock): number => block.bytes.length + block.ends.byteLength;
    return this.#full.reduce((sum, block) => sum + bytes(block), 0) + bytes({ bytes: this.#bytes, ends: this.#ends });
  }

  /** A string; `index` must be below `length`. */
  at(index: number): string {
    const { bytes, start, end } = this.#range(index);
    return bytes.toString("utf8", start, end);
  }

  /** The bytes of a string, which need not be UTF-8 where they were added as bytes. */
  bytesAt(index: number): Buffer {
    const { bytes, start, end } = this.#range(index);
    return bytes.subarray(start, end);
  }

  /** Adds strings; many at once are packed faster than one at a time. */
  push(strings: readonly string[]): void {
    for (let i = 0; i < strings.length; i += perBlock) this.append(blockOf(strings.slice(i, i + perBlock)));
  }

  /** Order of two strings by code point, which is the order of their UTF-8. */
  compare(index: number, other: PackedStrings, otherIndex: number): number {
    const a = this.#range(index), b = other.#range(otherIndex);
    return a.bytes.compare(b.bytes, b.start, b.end, a.start, a.end);
  }

  /** Adds strings of another list. */
  appendFrom(other: PackedStrings, from = 0, to = other.length): void {
    for (let i = from; i < to;) {
      const within = i % perBlock;
      const block = other.#block(i);
      const count = Math.min(to - i, block.ends.length - within);
      this.append(block, within, within + count);
      i += count;
    }
  }

  /** Adds the strings `from` to `to` of a block. */
  append(block: StringBlock, from = 0, to = block.ends.length): void {
    if (this.#count === 0 && from === 0 && to === block.ends.length && to < perBlock && block.bytes.length === block.ends[to - 1]) {
      // Taken as it is: it is full, so that the next string makes a larger one.
      [this.#bytes, this.#ends, this.#count, this.#used] = [block.bytes, block.ends, to, block.bytes.length];
      return;
    }
    while (from < to) {
      const count = Math.min(to - from, perBlock - this.#count);
      const start = from === 0 ? 0 : block.ends[from - 1]!;
      const end = block.ends[from + count - 1]!;
      this.#reserve(count, end - start);
      block.bytes.copy(this.#bytes, this.#used, start, end);
      const shift = this.#used - start;
      for (let i = 0; i < count; i++) this.#ends[this.#count + i] = block.ends[from + i]! + shift;
      this.#count += count;
      this.#used += end - start;
      from += count;
      if (this.#count === perBlock) {
        this.#full.push(...this.#filling());
        this.#bytes = Buffer.alloc(0);
        this.#ends = new Uint32Array(0);
        this.#count = this.#used = 0;
      }
    }
  }

  /** What was added so far, to be written to a file. */
  *blocks(): Iterable<StringBlock> {
    yield* this.#full;
    yield* this.#filling();
  }

  #filling(): StringBlock[] {
    if (this.#count === 0) return [];
    // Copied, so that what is kept is not the larger buffer that it grew in.
    const bytes = this.#used === this.#bytes.length ? this.#bytes : Buffer.from(new Uint8Array(this.#bytes.subarray(0, this.#used)).buffer);
    return [{ bytes, ends: this.#ends.slice(0, this.#count) }];
  }

  #block(index: number): StringBlock {
    const full = this.#full[Math.floor(index / perBlock)];
    return full ?? { bytes: this.#bytes, ends: this.#ends.subarray(0, this.#count) };
  }

  #range(index: number): { bytes: Buffer; start: number; end: number } {
    const full = this.#full[Math.floor(index / perBlock)];
    const ends = full?.ends ?? this.#ends;
    const within = index % perBlock;
    return { bytes: full?.bytes ?? this.#bytes, start: within === 0 ? 0 : ends[within - 1]!, end: ends[within]! };
  }

  #reserve(count: number, bytes: number): void {
    if (this.#count + count > this.#ends.length) {
      const ends = new Uint32Array(Math.min(perBlock, Math.max(this.#count + count, 2 * this.#ends.length)));
      ends.set(this.#ends.subarray(0, this.#count));
      this.#ends = ends;
    }
    if (this.#used + bytes > this.#bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(this.#used + bytes, 2 * this.#bytes.length));
      this.#bytes.copy(grown, 0, 0, this.#used);
      this.#bytes = grown;
    }
  }
}

/** Packs strings at once: one conversion, not one for each. */
function blockOf(strings: readonly string[]): StringBlock {
  const joined = strings.join("");
  const bytes = Buffer.from(joined);
  const ascii = bytes.length === joined.length;
  const ends = new Uint32Array(strings.length);
  let end = 0;
  for (let i = 0; i < strings.length; i++) ends[i] = end += ascii ? strings[i]!.length : Buffer.byteLength(strings[i]!);
  // Half a surrogate pair at an end, which Windows allows in names, may have met its other half.
  return { bytes: end === bytes.length ? bytes : Buffer.concat(strings.map((text) => Buffer.from(text))), ends };
}
