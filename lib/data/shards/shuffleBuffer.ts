import type { RandomStream } from "../random.js";

export interface ShuffleLimits {
  /** Samples held at once. 1 leaves the order as it is. */
  size: number;
  /** Bytes held at once; the sample that goes above is still taken in. */
  bytes: number;
}

/**
 * Shuffles a stream with a buffer: once it is full, a random sample of it leaves and the next one takes its place; at the end the rest
 * leaves in random order. The order depends on the random numbers, the samples' number and their bytes alone.
 */
export async function* shuffled<T extends { bytes: number }>(
  samples: AsyncIterable<T>, limits: ShuffleLimits, random: RandomStream,
): AsyncGenerator<T, void, undefined> {
  const buffer: T[] = [];
  let bytes = 0;
  const draw = (): T => {
    const at = random.integer(buffer.length);
    const drawn = buffer[at]!;
    const last = buffer.pop()!;
    if (at < buffer.length) buffer[at] = last;
    bytes -= drawn.bytes;
    return drawn;
  };
  for await (const sample of samples) {
    buffer.push(sample);
    bytes += sample.bytes;
    while (buffer.length >= limits.size || (bytes > limits.bytes && buffer.length > 0)) yield draw();
  }
  while (buffer.length > 0) yield draw();
}
