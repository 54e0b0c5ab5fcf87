import { sortByCodePoint } from "./codePoints.js";
import { PackedStrings } from "./packedStrings.js";

/** Names that are sorted together; longer lists are merged from such parts, so that no huge array of strings exists. */
const namesAtOnce = 1 << 16;

/** Sorts names as they come, in parts that are merged like the digits of a counter: each name is copied a logarithmic number of times. */
export class SortedNames {
  #part: string[] = [];
  readonly #sorted: PackedStrings[] = [];

  add(name: string): void {
    if (this.#part.push(name) === namesAtOnce) this.#pack();
  }

  /** Adds names that are not UTF-8: few, as a rule. */
  addBytes(names: readonly Buffer[]): void {
    this.#sorted.push(PackedStrings.ofBytes([...names].sort(Buffer.compare)));
  }

  sorted(): PackedStrings {
    this.#pack();
    return this.#sorted.reduceRight((all, part) => merge(part, all));
  }

  #pack(): void {
    let newest = PackedStrings.of(sortByCodePoint(this.#part));
    this.#part = [];
    while (this.#sorted.length > 0 && this.#sorted.at(-1)!.length <= newest.length) newest = merge(this.#sorted.pop()!, newest);
    this.#sorted.push(newest);
  }
}

function merge(a: PackedStrings, b: PackedStrings): PackedStrings {
  if (a.length === 0) return b;
  if (b.length === 0) return a;
  const merged = PackedStrings.empty();
  let i = 0, j = 0;
  while (i < a.length && j < b.length) {
    if (a.compare(i, b, j) <= 0) merged.appendFrom(a, i, ++i);
    else merged.appendFrom(b, j, ++j);
  }
  merged.appendFrom(a, i);
  merged.appendFrom(b, j);
  return merged;
}
