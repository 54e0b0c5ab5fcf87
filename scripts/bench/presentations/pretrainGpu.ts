import type { BenchmarkResult } from "../result.js";
import { factor, number } from "./numbers.js";
import { bar, type Presentation } from "./presentation.js";

interface Run {
  arch: string;
  batch: number;
  augment: "cpu" | "gpu";
  threads: number;
  imagesPerSecond: number;
  stepMs: number;
  waitMs: number;
}

/** The record of runs made by hand, before `end2end` measured them. */
export function presentPretrainGpu({ ratios, raw }: BenchmarkResult): Presentation {
  const runs = (raw["endToEnd"] as Run[]).map((run) => {
    const ratio = ratios[`${run.arch}_${run.batch}${run.augment === "gpu" ? "AugmentGpu" : ""}EndToEnd`];
    return { ...run, group: `${run.arch}, batch ${run.batch}, --augment ${run.augment}, ${run.threads} threads`, ratio };
  });
  // Of several runs of a kind the first is the one that the ratio is of.
  const kinds = new Set<string>();
  const compared = runs.map((run) => {
    const kind = `${run.arch} ${run.batch} ${run.augment}`;
    const ratio = kinds.has(kind) ? undefined : run.ratio;
    kinds.add(kind);
    return { ...run, ratio };
  });
  return {
    title: "From JPEGs to a trained step, on a GPU",
    panels: [
      {
        title: "moco pretrain", axis: "images per second (more is better)",
        bars: compared.flatMap(({ group, imagesPerSecond, ratio }) => [
          bar(group, "from JPEGs", [imagesPerSecond]), ...(ratio === undefined ? [] : [bar(group, "synthetic views", [imagesPerSecond / ratio])]),
        ]),
      },
    ],
    columns: ["network", "batch", "augmentation", "threads", "images/s", "of synthetic views", "ms per step", "waited, ms"],
    rows: compared.map(({ arch, batch, augment, threads, imagesPerSecond, stepMs, waitMs, ratio }) => [
      arch, String(batch), `\`--augment ${augment}\``, String(threads), number(imagesPerSecond), factor(ratio), number(stepMs), number(waitMs),
    ]),
  };
}
