export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Standard error of the mean of independent values: their standard deviation (n - 1) over √n. NaN for fewer than two, which tell none. */
export function standardError(values: readonly number[]): number {
  const centre = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - centre) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1) / values.length);
}

/** Standard error of an accuracy that was measured on `images` images, were others drawn in their place. */
export function binomialError(accuracy: number, images: number): number {
  return Math.sqrt((accuracy * (1 - accuracy)) / images);
}

/**
 * What a comparison says:
 * - `"seeds"`: the means differ by no more than one standard error of their difference, from what the seeds alone make of it.
 * - `"images"`: by more, and by no more than one standard error when that of the validation set counts too: another draw of as many images
 *   would move either accuracy further.
 * - `"apart"`: by more than that.
 */
export type Verdict = "seeds" | "images" | "apart";

export interface Agreement {
  ours: { mean: number; error: number };
  theirs: { mean: number; error: number };
  /** Ours less theirs. */
  difference: number;
  /** One standard error of the difference, from the spread over seeds on both sides. */
  seedError: number;
  /** One binomial standard error of the validation set: both sides are judged on the same images, so it counts once. */
  imageError: number;
  verdict: Verdict;
}

/**
 * Compares two sides' accuracies (fractions), one of each seed. The sides' seeds need not be as many, nor is one's seed paired with the
 * other's: they draw other numbers.
 *
 * Two sides that are the same in truth are within one standard error of the seeds in about two comparisons of three, and further apart in one.
 *
 * @param images images that each accuracy was measured on
 * @throws RangeError for a side of fewer than two seeds
 * @example compareSides([0.91, 0.92, 0.9], [0.9, 0.92, 0.91], 360).verdict // "seeds"
 */
export function compareSides(ours: readonly number[], theirs: readonly number[], images: number): Agreement {
  for (const { length } of [ours, theirs]) {
    if (length < 2) throw new RangeError(`compareSides: a side has ${length} accuracies; a standard error needs at least two seeds`);
  }
  const [a, b] = [ours, theirs].map((values) => ({ mean: mean(values), error: standardError(values) })) as [Agreement["ours"], Agreement["theirs"]];
  const difference = a.mean - b.mean;
  const seedError = Math.hypot(a.error, b.error);
  const imageError = binomialError((a.mean + b.mean) / 2, images);
  // The mean of equal numbers may differ in its last bits with their number.
  const within = (error: number): boolean => Math.abs(difference) <= error + 1e-12;
  const verdict = within(seedError) ? "seeds" : within(Math.hypot(seedError, imageError)) ? "images" : "apart";
  return { ours: a, theirs: b, difference, seedError, imageError, verdict };
}
