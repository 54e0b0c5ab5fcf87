import { readFileSync } from "node:fs";
import { expect, test } from "@jest/globals";
import { drawn, recordedResults, withSections } from "../../scripts/bench/records.js";
import type { BenchmarkResult } from "../../scripts/bench/result.js";
import { packageRoot } from "../../lib/setup/packageRoot.js";

test("the tables, charts and the page in the repository are those of the recorded results", async () => {
  const results = recordedResults(packageRoot);
  expect(results.map(({ name }) => name)).toEqual(expect.arrayContaining(["step", "ops", "data", "checkpoint", "step-gpu", "pretrain-gpu"]));
  const files = await drawn(results, packageRoot);
  expect(files.size).toBe(2 * results.length + 1);
  // As a list of names first: a difference of whole files tells little. `npm run bench -- chart` draws them anew.
  const different = [...files].filter(([path, content]) => readFileSync(path, "utf8") !== content).map(([path]) => path);
  expect(different).toEqual([]);
});

const ops: BenchmarkResult = {
  name: "ops", date: "2026-01-02", machine: { cpu: "A", cores: 4, memoryGiB: 8, system: "linux", capability: "AVX2" },
  versions: { node: "20", libtorch: "2.11.0" }, settings: {}, ratios: { add: 0.5, geometricMean: 0.9 },
  raw: { ours: [{ add: 1 }], python: [{ add: 2 }] },
};

test("a page's sections are replaced, what stands around them is not, and targets say what was missed", () => {
  const page = "# T\n\n<!-- benchmark: ops -->\nold\n<!-- end -->\nwords\n<!-- benchmark: step -->\n<!-- end -->\n<!-- benchmark: targets -->\n<!-- end -->\nend\n";
  const once = withSections(page, [ops]);
  expect(once).toContain("![Chart: The cost of calling an operator; the table has its numbers](../benchmarks/results/ops.svg)");
  expect(once).toContain("| add | 1.00 | 2.00 | 0.50 |");
  expect(once).not.toContain("old");
  expect(once).toContain("<!-- end -->\nwords\n<!-- benchmark: step -->\n\n*Not recorded yet");
  expect(once).toContain("| calling an operator: time, geometric mean, × Python's | ≤ 0.8 | 0.90 | **missed** |");
  expect(once).toMatch(/step of vit_small: time, × upstream's \| ≤ 0.95 \| – \| not measured/);
  expect(withSections(once, [ops])).toBe(once);
});
