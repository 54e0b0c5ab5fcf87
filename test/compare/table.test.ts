import { expect, test } from "@jest/globals";
import { compareSides } from "../../scripts/compare/statistics.js";
import { comparisonTable, isExplained, type Comparison } from "../../scripts/compare/table.js";

const seeded = (ours: number[], theirs: number[]): Comparison =>
  ({ data: "digits", method: "linear probe", images: 360, ours, theirs, agreement: compareSides(ours, theirs, 360) });
const exact = (ours: number, theirs: number, ties: number, equal: boolean): Comparison =>
  ({ data: "emoji", method: "kNN, k = 5", images: 1000, ours, theirs, ties, equal });

test("the table says what was measured and whether it agrees", () => {
  const comparisons = [
    seeded([0.9, 0.91, 0.92], [0.9, 0.92, 0.92]), seeded([0.9, 0.9, 0.901], [0.905, 0.905, 0.905]), seeded([0.9, 0.91], [0.8, 0.81]),
    exact(0.5, 0.5, 0, true), exact(0.501, 0.5, 2, true), exact(0.6, 0.5, 2, false),
  ];
  expect(comparisonTable(comparisons)).toBe([
    "| images | method | ours | PyTorch | difference | ± seeds | ± images | within one standard error |",
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    "| digits | linear probe | 91.0 ± 0.58 (3) | 91.3 ± 0.67 (3) | −0.33 | 0.88 | 1.50 | yes, of the seeds alone |",
    "| digits | linear probe | 90.0 ± 0.03 (3) | 90.5 ± 0.00 (3) | −0.47 | 0.03 | 1.56 | yes, of seeds and images |",
    "| digits | linear probe | 90.5 ± 0.50 (2) | 80.5 ± 0.50 (2) | +10.00 | 0.71 | 1.86 | no |",
    "| emoji | kNN, k = 5 | 50.0 | 50.0 | 0.00 |  | 1.58 | equal |",
    "| emoji | kNN, k = 5 | 50.1 | 50.0 | +0.10 |  | 1.58 | equal but for 2 ties |",
    "| emoji | kNN, k = 5 | 60.0 | 50.0 | +10.00 |  | 1.57 | no |",
    "",
  ].join("\n"));
  expect(comparisons.map(isExplained)).toEqual([true, true, false, true, true, false]);
});
