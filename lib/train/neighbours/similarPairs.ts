import { setImmediate as nextTurn } from "node:timers/promises";
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";

/** Rows of one side of a block of similarities: 16 MB, or 256 MB on a GPU. */
const blockRows = { cpu: 2048, gpu: 8192 };

/** Rows as similar as this are copies: float32 cannot tell their vectors from the same ones, whose similarity comes out as 1 but for rounding. */
const copySimilarity = 1 - 2e-6;

/** Pairs that are kept at most: 240 MB. */
const mostPairs = 20_000_000;

/** So many images are alike that the pairs do not fit in memory: the threshold does not tell copies from others. */
export class TooManyPairsError extends Error {
  override readonly name = "TooManyPairsError";

  constructor(pairs: number, threshold: number, images: number) {
    super(
      `more than ${pairs.toLocaleString("en")} pairs of the ${images.toLocaleString("en")} images are at least ${threshold} similar, so that ` +
      "threshold does not tell copies from others with these features; choose a higher --threshold",
    );
  }
}

/** Pairs of similar rows, first < second, and rows that are copies of others. */
export class SimilarPairs {
  first = new Int32Array(1024);
  second = new Int32Array(1024);
  similarity = new Float32Array(1024);
  length = 0;
  /** For each row the earlier row that it is a copy of, or -1. Copies are in no pairs: what the other is similar to, so are they. */
  readonly copyOf: Int32Array;

  /** @param limit pairs that are kept at most */
  constructor(rows: number, private readonly threshold: number, private readonly limit = mostPairs) {
    this.copyOf = new Int32Array(rows).fill(-1);
  }

  /** @throws TooManyPairsError */
  add(a: number, b: number, similarity: number): void {
    if (this.length === this.first.length) {
      if (this.length >= this.limit) this.#dropCopies();
      if (this.length > 0.9 * this.limit) throw new TooManyPairsError(this.limit, this.threshold, this.copyOf.length);
      this.#grow();
    }
    this.first[this.length] = Math.min(a, b);
    this.second[this.length] = Math.max(a, b);
    this.similarity[this.length++] = similarity;
  }

  /** Removes pairs of which one has turned out a copy since. */
  #dropCopies(): void {
    let kept = 0;
    for (let i = 0; i < this.length; i++) {
      if (this.copyOf[this.first[i]!]! >= 0 || this.copyOf[this.second[i]!]! >= 0) continue;
      this.first[kept] = this.first[i]!;
      this.second[kept] = this.second[i]!;
      this.similarity[kept++] = this.similarity[i]!;
    }
    this.length = kept;
  }

  #grow(): void {
    const capacity = Math.min(2 * this.first.length, this.limit);
    const larger = <T extends Int32Array | Float32Array>(from: T, to: T): T => (to.set(from), to);
    if (capacity <= this.first.length) return;
    this.first = larger(this.first, new Int32Array(capacity));
    this.second = larger(this.second, new Int32Array(capacity));
    this.similarity = larger(this.similarity, new Float32Array(capacity));
  }

  /** Keeps one of each pair that was added from both its ends. */
  withoutRepetitions(): this {
    const rows = this.copyOf.length;
    const key = Float64Array.from({ length: this.length }, (_, i) => this.first[i]! * rows + this.second[i]!); // whole numbers below 2^53
    const order = Uint32Array.from(key.keys()).sort((a, b) => key[a]! - key[b]!).filter((each, i, all) => i === 0 || key[each] !== key[all[i - 1]!]);
    [this.first, this.second, this.similarity] = [
      Int32Array.from(order, (i) => this.first[i]!), Int32Array.from(order, (i) => this.second[i]!), Float32Array.from(order, (i) => this.similarity[i]!),
    ];
    this.length = order.length;
    return this;
  }

  /** What there is to be found was found. */
  finish(): this {
    this.#dropCopies();
    return this;
  }
}

export interface SimilarPairsOptions {
  threshold: number;
  /** Hears how many of all pairs of blocks are done. */
  onBlocks?(done: number, total: number): void;
}

/** Vectors that are compared, in blocks. */
export interface ComparedRows {
  count: number;
  device: string;
  /** Rows from `first` on, float32 [size, D], each of length 1. */
  block(first: number, size: number): Tensor;
}

/**
 * All pairs of rows whose cosine similarity is at least `threshold`; exact, every pair once, in blocks. Other work gets its turn in between.
 *
 * @throws TooManyPairsError
 */
export async function findSimilarPairs({ count, device, block }: ComparedRows, { threshold, onBlocks }: SimilarPairsOptions): Promise<SimilarPairs> {
  const pairs = new SimilarPairs(count, threshold);
  const side = blockRows[device === "cpu" ? "cpu" : "gpu"];
  const blocks = Math.ceil(count / side);
  const total = (blocks * (blocks + 1)) / 2;
  const rowsOf = (i: number): Tensor => torch.scope(() => torch.noGrad(() => block(i * side, Math.min(side, count - i * side))));
  let done = 0;
  for (let i = 0; i < blocks; i++) {
    using rows = torch.keep(rowsOf(i));
    for (let j = i; j < blocks; j++) {
      const hits = torch.scope(() => hitsIn(torch.mm(rows, (j === i ? rows : rowsOf(j)).t()), threshold));
      if (hits !== null) collect(pairs, hits, i * side, j * side);
      onBlocks?.(++done, total);
      await nextTurn();
    }
  }
  return pairs.finish();
}

interface Hits {
  rows: Int32Array;
  columns: Int32Array;
  values: Float32Array;
}

/** Where a block is at least `threshold`; null where nowhere, which is nearly everywhere and costs one pass over it. */
function hitsIn(block: Tensor, threshold: number): Hits | null {
  if (block.max().item() < threshold) return null;
  const places = block.ge(threshold).nonzero(); // [hits, 2]
  const [rows, columns] = [places.select(1, 0), places.select(1, 1)];
  const values = block.view([-1]).indexSelect(0, rows.mul(block.size(1)).add(columns));
  const plain = (tensor: Tensor): Int32Array => tensor.to("int32").contiguous().data() as Int32Array;
  return { rows: plain(rows), columns: plain(columns), values: values.data() as Float32Array };
}

function collect(pairs: SimilarPairs, { rows, columns, values }: Hits, firstRow: number, firstColumn: number): void {
  const { copyOf } = pairs;
  // A block of rows with themselves has each pair twice, and each row with itself. Copies first, so that a thousand copies of one image are a thousand copies and not half a million pairs.
  for (let hit = 0; hit < values.length; hit++) {
    const [a, b] = [firstRow + rows[hit]!, firstColumn + columns[hit]!];
    if (a < b && values[hit]! >= copySimilarity && copyOf[a]! < 0 && copyOf[b]! < 0) copyOf[b] = a;
  }
  for (let hit = 0; hit < values.length; hit++) {
    const [a, b] = [firstRow + rows[hit]!, firstColumn + columns[hit]!];
    if (a < b && copyOf[a]! < 0 && copyOf[b]! < 0) pairs.add(a, b, values[hit]!);
  }
}

/** Nearest rows that an approximate index is asked for at first, and at most. */
const nearestAsked = { first: 33, most: 1025 };
const rowsAtOnce = 256;

/**
 * Pairs of rows whose cosine similarity is at least `threshold`, as far as an approximate index finds them. A row all of whose nearest rows are
 * that similar is asked again for more.
 *
 * @param nearest answers the `k` nearest of some rows, themselves included, the most similar first
 * @throws TooManyPairsError
 */
export async function approximatePairs(
  count: number, threshold: number, nearest: (rows: Int32Array, k: number) => { rows: Int32Array; similarities: Float32Array }[],
  onRows: (done: number, total: number) => void = () => {},
): Promise<SimilarPairs> {
  const pairs = new SimilarPairs(count, threshold);
  const { copyOf } = pairs;
  for (let first = 0; first < count; first += rowsAtOnce) {
    let asked = Int32Array.from({ length: Math.min(rowsAtOnce, count - first) }, (_, i) => first + i).filter((row) => copyOf[row]! < 0);
    for (let k = nearestAsked.first; asked.length > 0; k = 4 * (k - 1) + 1) {
      const most = Math.min(k, nearestAsked.most, count);
      const again: number[] = [];
      for (const [i, { rows, similarities }] of nearest(asked, most).entries()) {
        const row = asked[i]!;
        if (copyOf[row]! >= 0) continue;
        if (most < Math.min(count, nearestAsked.most) && similarities.at(-1)! >= threshold) again.push(row);
        else collectNearest(pairs, row, rows, similarities, threshold);
      }
      asked = Int32Array.from(again);
    }
    onRows(Math.min(count, first + rowsAtOnce), count);
    await nextTurn();
  }
  return pairs.withoutRepetitions().finish();
}

function collectNearest(pairs: SimilarPairs, row: number, rows: Int32Array, similarities: Float32Array, threshold: number): void {
  const { copyOf } = pairs;
  for (let i = 0; i < rows.length && similarities[i]! >= threshold; i++) {
    const other = rows[i]!;
    if (other === row || copyOf[other]! >= 0) continue;
    if (other > row && similarities[i]! >= copySimilarity) copyOf[other] = row;
    else pairs.add(row, other, similarities[i]!);
  }
}
