/** How many images to encode at a time. */
export interface ChunkChoice {
  /** Whether the recipe fits as it is. */
  fits: boolean;
  /** The largest chunk that fits where it does not: `--micro-batch`. Null: not needed, or no chunk fits. */
  microBatch: number | null;
  /** Memory with that, or of the recipe as it is. */
  bytes: number;
  /** Whether gradients are those of the whole batch at once: not where batch normalisation sees a chunk's images only. */
  exact: boolean;
  /** Where no chunk fits: the largest power of two that does as a batch, in chunks; null where none does. */
  smallerBatch: number | null;
}

/** Smallest chunk: batch normalisation of images needs two. */
const LEAST = 2;

/**
 * The recipe as it is, or the largest chunk that fits, a power of two. Memory grows with the chunk.
 *
 * @param asked the recipe's own chunk, or null
 * @param bytesWith memory for a batch in chunks of so many images; null for all of it at once
 * @param batchNorms of the encoder, over images
 */
export function chooseChunk(
  { batchSize, asked, usableBytes, bytesWith, batchNorms }:
  { batchSize: number; asked: number | null; usableBytes: number; bytesWith: (batch: number, chunk: number | null) => number; batchNorms: number },
): ChunkChoice {
  const exact = batchNorms === 0;
  const own = bytesWith(batchSize, asked);
  if (own <= usableBytes) return { fits: true, microBatch: null, bytes: own, exact: asked === null || exact, smallerBatch: null };
  for (let chunk = 2 ** Math.floor(Math.log2((asked ?? batchSize) - 1)); chunk >= LEAST; chunk /= 2) {
    const bytes = bytesWith(batchSize, chunk);
    if (bytes <= usableBytes) return { fits: false, microBatch: chunk, bytes, exact, smallerBatch: null };
  }
  let smaller = 2 ** Math.floor(Math.log2(batchSize - 1));
  while (smaller >= LEAST && bytesWith(smaller, LEAST) > usableBytes) smaller /= 2;
  return { fits: false, microBatch: null, bytes: own, exact, smallerBatch: smaller >= LEAST ? smaller : null };
}
