/** A part of a shard: its samples at positions `from`, `from + stride`, ... below `to`. */
export interface ShardPart {
  shard: number;
  from: number;
  to: number;
  stride: number;
}

/**
 * Deals shards over ranks.
 *
 * - Where all counts are known, the samples of all shards in the given order are one sequence, and each rank reads its share of it: the
 *   shares differ by one sample at most and cover every sample once, for any number of ranks. A shard at a border is read by two ranks.
 * - Where they are not (commands), each rank reads every `worldSize`-th shard; with fewer shards than ranks every rank reads all of them
 *   and keeps every `worldSize`-th sample.
 *
 * @param order the shards in the order of the epoch
 * @param counts samples of each shard, by its number, or null
 */
export function dealShards(order: ArrayLike<number>, counts: readonly number[] | null, rank: number, worldSize: number): ShardPart[] {
  const parts: ShardPart[] = [];
  if (counts) {
    const total = counts.reduce((sum, count) => sum + count, 0);
    const begin = Math.floor((total * rank) / worldSize);
    const end = Math.floor((total * (rank + 1)) / worldSize);
    let start = 0;
    for (let i = 0; i < order.length && start < end; i++) {
      const shard = order[i]!;
      const from = Math.max(begin - start, 0), to = Math.min(end - start, counts[shard]!);
      if (from < to) parts.push({ shard, from, to, stride: 1 });
      start += counts[shard]!;
    }
    return parts;
  }
  if (order.length < worldSize) return Array.from(order, (shard) => ({ shard, from: rank, to: Infinity, stride: worldSize }));
  for (let i = rank; i < order.length; i += worldSize) parts.push({ shard: order[i]!, from: 0, to: Infinity, stride: 1 });
  return parts;
}
