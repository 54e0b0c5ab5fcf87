import { expect, test } from "@jest/globals";
import { binomialError, compareSides, mean, standardError } from "../../scripts/compare/statistics.js";

test("mean and standard error are those of the textbook", () => {
  const values = [2, 4, 4, 4, 5, 5, 7, 9];
  expect(mean(values)).toBe(5);
  // Squares sum up to 32: variance 32/7, of the mean 4/7.
  expect(standardError(values)).toBeCloseTo(Math.sqrt(4 / 7), 12);
  expect(standardError([0.5, 0.5, 0.5])).toBe(0);
  expect(standardError([0.5])).toBeNaN();
  expect(binomialError(0.5, 100)).toBeCloseTo(0.05, 12);
});

test("a verdict follows the standard errors of seeds and images", () => {
  const spread = (centre: number): number[] => [centre - 0.01, centre, centre + 0.01]; // standard error 0.01 / sqrt(3) each
  const seedError = 0.01 * Math.sqrt(2 / 3);
  const agreement = compareSides(spread(0.9), spread(0.9 - 0.99 * seedError), 400);
  expect(agreement.seedError).toBeCloseTo(seedError, 12);
  expect(agreement.difference).toBeCloseTo(0.99 * seedError, 12);
  expect(agreement.ours).toEqual({ mean: expect.closeTo(0.9, 12), error: expect.closeTo(0.01 / Math.sqrt(3), 12) });
  expect(agreement.verdict).toBe("seeds");
  // 400 images at 0.9: 0.015, together with the seeds' 0.0082 at most 0.0173.
  expect(compareSides(spread(0.9), spread(0.9 + 1.01 * seedError), 400).verdict).toBe("images");
  expect(compareSides(spread(0.9), spread(0.884), 400).verdict).toBe("images");
  expect(compareSides(spread(0.9), spread(0.879), 400).verdict).toBe("apart");
});

test("sides without any spread agree where they are equal, however often they were measured", () => {
  expect(compareSides([0.7, 0.7, 0.7], [0.7, 0.7], 100).verdict).toBe("seeds");
  expect(compareSides([0.7, 0.7, 0.7], [0.71, 0.71], 1e6).verdict).toBe("apart");
});

test("one seed has no standard error", () => {
  expect(() => compareSides([0.7], [0.7, 0.71], 100)).toThrow(/a side has 1 accuracies; a standard error needs at least two seeds/);
});

test("sides that are the same in truth are within one standard error in about two comparisons of three", () => {
  // A fixed generator, so that this never fails by chance.
  let state = 1;
  const uniform = (): number => (state = (state * 48271) % 2147483647) / 2147483647;
  const normal = (): number => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  const side = (): number[] => Array.from({ length: 5 }, () => 0.8 + 0.01 * normal());
  const trials = 4000;
  let within = 0;
  for (let i = 0; i < trials; i++) if (compareSides(side(), side(), 1000).verdict === "seeds") within++;
  expect(within / trials).toBeGreaterThan(0.62); // 0.653 by Student's t of 8 degrees of freedom
  expect(within / trials).toBeLessThan(0.69);
});
