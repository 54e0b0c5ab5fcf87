import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { packageRoot } from "../../lib/setup/packageRoot.js";
import type { ComparisonResult } from "../../scripts/compare/runComparison.js";
import { compareSides } from "../../scripts/compare/statistics.js";
import { comparisonTable, isSeeded } from "../../scripts/compare/table.js";

const record = JSON.parse(readFileSync(join(packageRoot, "benchmarks", "results", "compare.json"), "utf8")) as ComparisonResult;
const page = readFileSync(join(packageRoot, "docs", "evaluation.md"), "utf8");

test("the page's table is that of the recorded run", () => {
  expect(page).toContain(`\n\n${comparisonTable(record.comparisons)}\n`);
});

test("the record's verdicts follow from its accuracies", () => {
  const seeded = record.comparisons.filter(isSeeded);
  expect(seeded.length).toBeGreaterThan(4);
  for (const { ours, theirs, images, agreement } of seeded) {
    expect(compareSides(ours, theirs, images)).toEqual(agreement);
    // Each is a count of images.
    for (const accuracy of [...ours, ...theirs]) expect(Math.abs(accuracy * images - Math.round(accuracy * images))).toBeLessThan(0.03);
  }
});
