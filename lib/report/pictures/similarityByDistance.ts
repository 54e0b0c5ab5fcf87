import { positionSimilarities, type PositionTable } from "./positionTable.js";

/** How alike positions are that lie so far apart. */
export interface DistanceSimilarity {
  /** Patches along one row or column. */
  distance: number;
  /** Cosine similarity: mean, smallest and largest over all such pairs. */
  mean: number;
  least: number;
  most: number;
}

/**
 * Similarity by distance along rows and along columns, from 0 on. In the sine-cosine embedding of a square grid it depends on the distance
 * alone, not on the place: least and most agree.
 */
export function similarityByDistance(table: PositionTable): DistanceSimilarity[] {
  const { grid: [rows, columns] } = table;
  const patches = rows * columns;
  const similarities = positionSimilarities(table);
  const found: { sum: number; count: number; least: number; most: number }[] = [];
  const add = (distance: number, a: number, b: number): void => {
    const value = similarities[a * patches + b]!;
    const entry = (found[distance] ??= { sum: 0, count: 0, least: Infinity, most: -Infinity });
    entry.sum += value;
    entry.count++;
    entry.least = Math.min(entry.least, value);
    entry.most = Math.max(entry.most, value);
  };
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const n = row * columns + column;
      for (let right = column; right < columns; right++) add(right - column, n, n + right - column);
      for (let below = row + 1; below < rows; below++) add(below - row, n, n + (below - row) * columns);
    }
  }
  return found.map(({ sum, count, least, most }, distance) => ({ distance, mean: sum / count, least, most }));
}
