import type { SimilarPairs } from "./similarPairs.js";

/** Rows that are all similar to each other. */
export interface SimilarGroup {
  /** In their order. */
  rows: number[];
  /** Of each row to the first. */
  similarities: number[];
  /** The smallest of any two of them. */
  least: number;
}

/**
 * Groups rows so that any two of a group are a similar pair: complete linkage. Connected components would put a chain of images, each a
 * little different from the one before, into one group, whose ends have nothing in common; here all but one of each group can go.
 *
 * A group begins with the row that has the most similar ones, and takes in those that are left, the most similar first, as long as they are
 * similar to all that are in it. No two groups could be one: the first would have taken in all of the second.
 *
 * @returns groups of two or more, the largest first, then by their first rows
 */
export function duplicateGroups(pairs: SimilarPairs): SimilarGroup[] {
  const { copyOf } = pairs;
  const graph = neighbours(pairs);
  const copies = copiesOf(copyOf);
  const count = copyOf.length;
  const degree = (row: number): number => graph.start[row + 1]! - graph.start[row]! + (copies.get(row)?.length ?? 0);
  const order = Array.from({ length: count }, (_, row) => row).filter((row) => degree(row) > 0).sort((a, b) => degree(b) - degree(a) || a - b);
  const taken = new Uint8Array(count);
  /** Of how many members of the group at hand a row is a neighbour. */
  const links = new Int32Array(count);
  const groups: SimilarGroup[] = [];
  for (const seed of order) {
    if (taken[seed]) continue;
    const members: number[] = [];
    const touched: number[] = [];
    let least = 1;
    const join = (row: number): void => {
      taken[row] = 1;
      members.push(row);
      for (let at = graph.start[row]!; at < graph.start[row + 1]!; at++) {
        const other = graph.row[at]!;
        if (links[other]!++ === 0) touched.push(other);
      }
    };
    join(seed);
    const candidates = Array.from({ length: graph.start[seed + 1]! - graph.start[seed]! }, (_, i) => graph.start[seed]! + i)
      .sort((a, b) => graph.similarity[b]! - graph.similarity[a]! || graph.row[a]! - graph.row[b]!);
    for (const at of candidates) {
      const row = graph.row[at]!;
      if (!taken[row] && links[row] === members.length) join(row);
    }
    for (const row of touched) links[row] = 0;

    const inGroup = new Set(members);
    const toFirst = new Map<number, number>();
    const all = members.flatMap((row) => [row, ...(copies.get(row) ?? [])]).sort((a, b) => a - b);
    if (all.length < 2) continue;
    const origin = (row: number): number => (copyOf[row]! < 0 ? row : copyOf[row]!);
    const first = origin(all[0]!);
    for (const row of members) {
      for (let at = graph.start[row]!; at < graph.start[row + 1]!; at++) {
        const other = graph.row[at]!;
        if (!inGroup.has(other)) continue;
        least = Math.min(least, graph.similarity[at]!);
        if (row === first) toFirst.set(other, graph.similarity[at]!);
      }
    }
    groups.push({ rows: all, similarities: all.map((row) => toFirst.get(origin(row)) ?? 1), least });
  }
  return groups.sort((a, b) => b.rows.length - a.rows.length || a.rows[0]! - b.rows[0]!);
}

/** Each row's similar rows: those of row `i` are `row[start[i]]` to `row[start[i + 1] - 1]`. */
interface Graph {
  start: Int32Array;
  row: Int32Array;
  similarity: Float32Array;
}

function neighbours({ first, second, similarity, length, copyOf }: SimilarPairs): Graph {
  const start = new Int32Array(copyOf.length + 1);
  for (let i = 0; i < length; i++) {
    start[first[i]! + 1]!++;
    start[second[i]! + 1]!++;
  }
  for (let row = 0; row < copyOf.length; row++) start[row + 1]! += start[row]!;
  const next = start.slice();
  const graph = { start, row: new Int32Array(2 * length), similarity: new Float32Array(2 * length) };
  const put = (from: number, to: number, value: number): void => {
    const at = next[from]!++;
    graph.row[at] = to;
    graph.similarity[at] = value;
  };
  for (let i = 0; i < length; i++) {
    put(first[i]!, second[i]!, similarity[i]!);
    put(second[i]!, first[i]!, similarity[i]!);
  }
  return graph;
}

function copiesOf(copyOf: Int32Array): Map<number, number[]> {
  const copies = new Map<number, number[]>();
  copyOf.forEach((original, row) => {
    if (original < 0) return;
    const known = copies.get(original);
    if (known) known.push(row);
    else copies.set(original, [row]);
  });
  return copies;
}
