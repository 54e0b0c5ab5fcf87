import { sortByCodePoint } from "../folder/codePoints.js";
import { PackedNumbers } from "../folder/packedNumbers.js";
import { TextLineError } from "./textLines.js";

/** Stands for an image without a label. */
export const noLabel = 0xffff_ffff;
/** More classes than any data set has: the column holds something else, such as captions or file sizes. */
const maxClasses = 1 << 22;

/** Labels of a list as they are read: all whole numbers, or all names. */
export class LabelColumn {
  /** Each image's position in `classes`, or `noLabel`. */
  readonly numbers = new PackedNumbers();
  classes: readonly string[] = [];
  /** Each label's number in order of appearance. */
  readonly #seen = new Map<string, number>();
  /** The first label, which says of what kind all are. */
  #first: { numbered: boolean; line: number } | null = null;

  push(label: string | null, line: number): void {
    let seen = label === null ? noLabel : this.#seen.get(label);
    if (seen === undefined) {
      this.#check(label!, line);
      this.#seen.set(label!, (seen = this.#seen.size));
    }
    this.numbers.push(seen);
  }

  /** Turns labels into numbers of classes, once all are known. */
  finish(): void {
    if (!this.#first) return;
    const labels = [...this.#seen.keys()];
    let places: number[];
    if (this.#first.numbered) {
      places = labels.map(Number);
      const classes = 1 + places.reduce((most, place) => Math.max(most, place), 0);
      this.classes = Array.from({ length: classes }, (_, place) => String(place));
    } else {
      this.classes = sortByCodePoint([...labels]);
      const order = new Map(this.classes.map((name, place) => [name, place]));
      places = labels.map((name) => order.get(name)!);
    }
    for (let i = 0; i < this.numbers.length; i++) {
      const seen = this.numbers.at(i);
      if (seen !== noLabel) this.numbers.set(i, places[seen]!);
    }
    this.#seen.clear();
  }

  /** Looks at a label that is new. */
  #check(label: string, line: number): void {
    const numbered = /^\d+$/.test(label);
    if (!numbered && /^[+-]?(\d+\.?\d*|\.\d+)$/.test(label)) {
      throw new TextLineError(line, `has the label ${label}; labels are whole numbers from 0, or names`);
    }
    this.#first ??= { numbered, line };
    if (numbered !== this.#first.numbered) {
      const [here, there] = numbered ? ["a number", "a name"] : ["a name", "a number"];
      throw new TextLineError(line, `has ${here} as its label, ${label}, but line ${this.#first.line} has ${there}; use one kind`);
    }
    if (this.#seen.size >= maxClasses || (numbered && Number(label) >= maxClasses)) {
      throw new TextLineError(line, `has the label ${label}; at most ${maxClasses} classes are possible: is this column the label?`);
    }
  }
}
