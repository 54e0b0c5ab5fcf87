import { UMAP } from "umap-js";
import { RandomStream } from "../../data/index.js";

/** Stream of the random numbers, among those of a seed. */
const stream = 0x756d6170;

/**
 * Places in the plane for vectors, by UMAP (McInnes, Healy and Melville, 2018): vectors with a small angle lie near each other. The same
 * vectors and seed give the same places.
 *
 * @param vectors of the same length
 * @returns x and y from 0 to 1 each, in their order
 */
export function embeddingLayout(vectors: readonly Float32Array[], seed: number): [number, number][] {
  const unit = vectors.map((vector) => {
    const length = Math.hypot(...vector) || 1;
    return Array.from(vector, (value) => value / length);
  });
  const random = new RandomStream({ seed, epoch: 0, index: 0, stream });
  // UMAP needs more points than neighbours, and some of each.
  if (unit.length < 5) return unit.map((_, i) => onCircle(i, unit.length));
  const umap = new UMAP({ nNeighbors: Math.min(15, unit.length - 1), minDist: 0.25, nEpochs: 300, random: () => random.uniform() });
  return stretched(umap.fit(unit));
}

/** The one in the middle; a few evenly around it. */
function onCircle(index: number, count: number): [number, number] {
  if (count === 1) return [0.5, 0.5];
  const angle = (2 * Math.PI * index) / count;
  return [0.5 + 0.35 * Math.cos(angle), 0.5 + 0.35 * Math.sin(angle)];
}

/** To the unit square; both axes by themselves, as UMAP's distances are relative. */
function stretched(places: readonly number[][]): [number, number][] {
  const ranges = [0, 1].map((axis) => {
    const values = places.map((place) => place[axis]!);
    return [Math.min(...values), Math.max(...values)] as const;
  });
  return places.map((place) => ranges.map(([low, high], axis) => (high > low ? (place[axis]! - low) / (high - low) : 0.5)) as [number, number]);
}
