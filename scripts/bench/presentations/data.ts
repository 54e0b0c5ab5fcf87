import { perCpuSecond, perSecond, stageNames, type Rounds, type Side } from "../dataRatios.js";
import type { LoadAnswer } from "../dataProtocol.js";
import type { BenchmarkResult } from "../result.js";
import { spreadOf, type Spread } from "../spread.js";
import { factor, number, percent, spread } from "./numbers.js";
import { bar, type Presentation } from "./presentation.js";

interface Raw {
  rounds: Rounds;
  memory: Record<Side, { peak: number }>;
  trainings: { encoder: string; batchSize: number; imageSize: number; waitShare: number }[];
}

export function presentData({ settings, ratios, raw }: BenchmarkResult): Presentation {
  const { rounds: { oneCore, allCores, crops }, memory, trainings } = raw as unknown as Raw;
  const names: Record<Side, string> = { ours: "ours", python: String(settings["peer"]).startsWith("upstream") ? "upstream" : "torchvision and PIL" };
  const all = `${String(settings["cores"])} cores`;
  const pair = (group: string, by: Record<Side, LoadAnswer[]>, figure: (answer: LoadAnswer) => number) =>
    (["ours", "python"] as const).map((side) => bar(group, names[side], by[side].map(figure)));
  const stage = (name: (typeof stageNames)[number]) => (each: LoadAnswer): number => (1000 * each.stages[name]) / each.images;
  const rows: [string, Spread, Spread | undefined, number | undefined][] = [
    ["images/s, one core", rate(oneCore.ours, perSecond), rate(oneCore.python, perSecond), ratios["oneCoreImagesPerSecond"]],
    [`images/s, ${all}`, rate(allCores.ours, perSecond), rate(allCores.python, perSecond), ratios["allCoresImagesPerSecond"]],
    ["images per second of CPU time, cropping only (`--augment gpu`)", rate(crops, perCpuSecond), rate(oneCore.python, perCpuSecond),
      ratios["gpuAugmentImagesPerCpuSecond"]],
    ...stageNames.map((name): [string, Spread, Spread, number | undefined] =>
      [`${name}, ms an image`, rate(oneCore.ours, stage(name)), rate(oneCore.python, stage(name)), ratios[`${name}Time`]]),
  ];
  return {
    title: "Two views of a JPEG",
    panels: [
      {
        title: "Two augmented views of each JPEG", axis: "images per second (more is better)",
        bars: [...pair("one core", oneCore, perSecond), ...pair(all, allCores, perSecond)],
      },
      {
        title: "Stage by stage, on one core", axis: "milliseconds per image, both views (less is better)",
        bars: stageNames.flatMap((name) => pair(name, oneCore, stage(name))),
      },
    ],
    columns: ["", "ours", names.python, "ours over it"],
    rows: [
      ...rows.map(([what, ours, theirs, ratio]) => [what, spread(ours), spread(theirs), factor(ratio)]),
      ["peak memory, MB", number(memory.ours.peak / 1e6), number(memory.python.peak / 1e6), factor(ratios["peakMemory"])],
      ["of perfect scaling to all cores", percent(ratios["scaling"]), percent(ratios["scalingPython"]), ""],
      ...trainings.map(({ encoder, batchSize, imageSize, waitShare }) =>
        [`of a step's time waited for images: ${encoder}, batch ${batchSize}, ${imageSize} pixels`, percent(waitShare), "", ""]),
    ],
  };
}

function rate(answers: readonly LoadAnswer[], figure: (answer: LoadAnswer) => number): Spread {
  return spreadOf(answers.map(figure));
}
