import type { NeighbourList, NeighbourQuery, SameClassShares } from "../../report/pictures/neighbourFigure.js";
import type { Tensor } from "../../torch/index.js";
import { nearestChunks, normalized } from "../neighbours/similarity.js";

/** Each row's nearest other rows, by cosine similarity. */
function neighboursOf(features: Tensor, k: number): NeighbourList[] {
  using unit = normalized(features);
  const own = Int32Array.from({ length: features.size(0) }, (_, row) => row);
  const lists: NeighbourList[] = [];
  for (const chunk of nearestChunks(unit, unit, k, { own })) {
    using nearest = chunk;
    const similarities = nearest.similarities.toArray() as number[][];
    const indices = nearest.indices.toArray() as (number | bigint)[][];
    similarities.forEach((row, i) => lists.push(row.map((similarity, j) => ({ image: Number(indices[i]![j]!), similarity }))));
  }
  return lists;
}

/**
 * The neighbours of some images by two networks' features.
 *
 * @param features [N, D] each; N is at least 2
 * @param labels of all images, where they have any
 * @param queries numbers of the images asked for
 */
export function neighbourQueries(
  features: { random: Tensor; trained: Tensor }, labels: readonly (string | null)[], queries: readonly number[], most: number,
): { queries: NeighbourQuery[]; same: SameClassShares | null } {
  const k = Math.min(most, labels.length - 1);
  const [random, trained] = [neighboursOf(features.random, k), neighboursOf(features.trained, k)];
  const share = (lists: readonly NeighbourList[]): number => {
    const hits = lists.reduce((sum, list, i) => sum + list.filter(({ image }) => labels[image] === labels[i]).length, 0);
    return hits / (k * lists.length);
  };
  const isLabelled = labels.every((label) => label !== null) && new Set(labels).size > 1;
  return {
    queries: queries.map((query) => ({ query, random: random[query]!, trained: trained[query]! })),
    same: isLabelled ? { random: share(random), trained: share(trained), neighbours: k } : null,
  };
}
