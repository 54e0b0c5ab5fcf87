import type { CompareAnswer, StepAnswer } from "../microBatchProtocol.js";
import type { BenchmarkResult } from "../result.js";
import { spreadOf } from "../spread.js";
import { count, number, spread } from "./numbers.js";
import { bar, type Panel, type Presentation } from "./presentation.js";

/** Parts are measured one by one, so each may be missing. */
interface Raw {
  step?: { measured: (StepAnswer & { batch: number; chunk: number | null; peakBytes: number })[] };
  equality?: { batch: number; comparisons: CompareAnswer["comparisons"] };
  "batch-norm"?: { batch: number; measured: (CompareAnswer & { arch: string; trained: number })[] };
  large?: { batch: number; chunk: number; peakBytes: number; step: { stepMs: number } };
}

export function presentMicroBatch({ settings, raw }: BenchmarkResult): Presentation {
  const { step, equality, "batch-norm": batchNorm, large } = raw as unknown as Raw;
  const arch = String(settings["arch"]);
  const inChunks = (chunk: number | null): string => (chunk === null ? "whole" : `chunks of ${chunk}`);
  const panels: Panel[] = [];
  const rows: string[][] = [];
  if (step) {
    const groups = step.measured.map((each) => ({ ...each, group: `${arch}, batch ${each.batch}, ${inChunks(each.chunk)}` }));
    panels.push({
      title: "Peak memory of a step", axis: "GB (less is better)", bars: groups.map(({ group, peakBytes }) => bar(group, "memory", [peakBytes / 1e9])),
    });
    for (const { group, stepSeconds, peakBytes } of groups) rows.push([group, `${spread(spreadOf(stepSeconds))} s a step`, number(peakBytes / 1e9), ""]);
  }
  if (equality) {
    for (const { chunk, gradient } of equality.comparisons) {
      rows.push([`${arch}, batch ${equality.batch}, ${inChunks(chunk)}: gradient`, `differs by ${gradient.relative.toExponential(1)} of its length`, "", number(gradient.cosine)]);
    }
  }
  if (batchNorm) {
    const groupOf = (each: { arch: string; trained: number }): string => `${each.arch} after ${each.trained} steps`;
    panels.push({
      title: `BatchNorm over a chunk in place of the batch of ${batchNorm.batch}`, axis: "cosine to the whole batch's gradient (1 is the same)", mark: 1,
      bars: batchNorm.measured.flatMap((each) => [
        ...each.comparisons.map(({ chunk, gradient }) => bar(groupOf(each), inChunks(chunk), [gradient.cosine])),
        ...(each.otherBatchCosine === null ? [] : [bar(groupOf(each), "another whole batch", [each.otherBatchCosine])]),
      ]),
    });
    for (const each of batchNorm.measured) {
      for (const { chunk, gradient } of each.comparisons) rows.push([`${groupOf(each)}, ${inChunks(chunk)} of ${batchNorm.batch}`, "", "", number(gradient.cosine)]);
      rows.push([`${groupOf(each)}, another whole batch`, "", "", number(each.otherBatchCosine ?? undefined)]);
    }
  }
  if (large) {
    rows.push([
      `${arch}, batch ${count(large.batch)}, ${inChunks(large.chunk)}, from JPEGs`, `${number(large.step.stepMs / 1000)} s a step`, number(large.peakBytes / 1e9), "",
    ]);
  }
  return { title: "A batch in chunks", panels, columns: ["", "measured", "peak memory, GB", "cosine to the whole batch's gradient"], rows };
}
