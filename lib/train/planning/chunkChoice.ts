/** How many images to encode at a time. */
export interface ChunkChoice {
  /** Whether the whole batch fits at once. */
  wholeFits: boolean;
  /** The largest chunk that fits where the whole batch does not: `--micro-batch`. Null: not needed, or no chunk fits. */
  microBatch: number | null;
  /** Memory with that, or with the whole batch. */
  bytes: number;
  /** Whether gradients are those of the whole batch at once: not where batch normalisation sees a chunk's images only. */
  exact: boolean;
  /** Where no chunk fits: the largest power of two that does as a batch, in chunks; null where none does. */
  smallerBatch: number | null;
}

/** Smallest chunk: batch normalisation of images needs two. */
const LEAST = 2;

/**
 * The largest power of two that fits, or the whole batch. Memory grows with the chunk.
 *
 * @param bytesWith memory for a batch in chunks of so many images; null for all of it at once
 * @param batchNorms of the encoder, over images
 */
export function chooseChunk(
  { batchSize, usableBytes, bytesWith, batchNorms }:
  { batchSize: number; usableBytes: number; bytesWith: (batch: number, chunk: number | null) => number; batchNorms: number },
): ChunkChoice {
  const exact = batchNorms === 0;
  const whole = bytesWith(batchSize, null);
  if (whole <= usableBytes) return { wholeFits: true, microBatch: null, bytes: whole, exact: true, smallerBatch: null };
  for (let chunk = 2 ** Math.floor(Math.log2(batchSize - 1)); chunk >= LEAST; chunk /= 2) {
    const bytes = bytesWith(batchSize, chunk);
    if (bytes <= usableBytes) return { wholeFits: false, microBatch: chunk, bytes, exact, smallerBatch: null };
  }
  let smaller = 2 ** Math.floor(Math.log2(batchSize - 1));
  while (smaller >= LEAST && bytesWith(smaller, LEAST) > usableBytes) smaller /= 2;
  return { wholeFits: false, microBatch: null, bytes: whole, exact, smallerBatch: smaller >= LEAST ? smaller : null };
}
