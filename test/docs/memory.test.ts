/** docs/memory.md: its blocks are run as they are printed, and its figures are those of the recorded runs. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { readPage, ReadersFolder, root, testBlocks, testLinks, testPrograms } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();
const page = readPage("memory.md");

beforeAll(async () => {
  await folder.writePhotos();
  writeFileSync(join(folder.path, "recipe.json"),
    '{ "arch": "vit_small", "image-size": 32, "batch-size": 32, "epochs": 1, "moco-dim": 16, "moco-mlp-dim": 64, "moco-t": 0.2, "seed": 0 }\n');
});

testLinks(page);
testBlocks(page, { sh: (code) => folder.runShell(code), ts: (code) => folder.runTypeScript(code) });
testPrograms(page, folder);

interface Record {
  raw: {
    step: { measured: { batch: number; chunk: number | null; peakBytes: number; seconds: number }[] };
    "batch-norm": {
      measured: {
        arch: string; trained: number; otherBatchCosine: number; comparisons: { chunk: number; loss: number; wholeLoss: number; gradient: { cosine: number } }[];
      }[];
    };
  };
}

test("the figures are those of the recorded runs", () => {
  const { raw } = JSON.parse(readFileSync(join(root, "benchmarks", "results", "micro-batch.json"), "utf8")) as Record;
  const rows = (cells: readonly (string | number)[][]): string => cells.map((row) => `| ${row.join(" | ")} |\n`).join("");
  const { measured } = raw.step;
  const whole = (batch: number): number => measured.find((each) => each.batch === batch && each.chunk === null)!.seconds;
  const costs = measured.map(({ batch, chunk, peakBytes, seconds }) =>
    [batch, chunk ?? "whole", (peakBytes / 1e9).toFixed(1), (seconds / whole(batch)).toFixed(2)]);
  expect(page.text).toContain(rows(costs));
  const changes = raw["batch-norm"].measured.flatMap(({ arch, trained, otherBatchCosine, comparisons }) =>
    comparisons.map(({ chunk, loss, wholeLoss, gradient }) =>
      [arch, trained, chunk, wholeLoss.toFixed(4), loss.toFixed(4), gradient.cosine.toFixed(2), otherBatchCosine.toFixed(2)]));
  expect(page.text).toContain(rows(changes));
});
