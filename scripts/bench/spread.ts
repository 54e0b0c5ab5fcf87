/** The middle of repeated measurements and their range. */
export interface Spread {
  median: number;
  low: number;
  high: number;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

export function spreadOf(values: readonly number[]): Spread {
  return { median: median(values), low: Math.min(...values), high: Math.max(...values) };
}

/** What `convert` makes of a spread, such as images per second of seconds; the range stays in order. */
export function converted({ median: middle, low, high }: Spread, convert: (value: number) => number): Spread {
  const ends = [convert(low), convert(high)];
  return { median: convert(middle), low: Math.min(...ends), high: Math.max(...ends) };
}

/**
 * Median over rounds of ours over theirs. The two of one round were measured one right after the other, so a machine's slow minute falls on
 * both and leaves their ratio alone.
 */
export function pairedRatio(ours: readonly number[], theirs: readonly number[]): number {
  return median(ours.map((each, round) => each / (theirs[round] as number)));
}
