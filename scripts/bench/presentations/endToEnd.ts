import type { EndToEndTraining } from "../end2end.js";
import type { BenchmarkResult } from "../result.js";
import { converted, spreadOf, type Spread } from "../spread.js";
import { factor, number, spread } from "./numbers.js";
import { bar, type Bar, type Presentation } from "./presentation.js";

const sides = { ours: "ours", upstream: "upstream" } as const;
type Side = keyof typeof sides;

export function presentEndToEnd({ name, ratios, raw }: BenchmarkResult): Presentation {
  const trainings = Object.entries(raw as unknown as Record<string, EndToEndTraining>);
  const rate = ({ batch, seconds }: EndToEndTraining, side: Side, views: "photographs" | "synthetic"): Spread | undefined =>
    seconds[side] && converted(spreadOf(seconds[side][views]), (each) => batch / each);
  const rates = ([arch, training]: [string, EndToEndTraining]): Bar[] =>
    (Object.keys(sides) as Side[]).flatMap((side) => {
      const [photographs, synthetic] = [rate(training, side, "photographs"), rate(training, side, "synthetic")];
      const group = `${arch}, batch ${training.batch}`;
      return photographs && synthetic
        ? [bar(group, `${sides[side]}, from JPEGs`, photographs), bar(group, `${sides[side]}, views that are there`, synthetic)]
        : [];
    });
  const memory = ([arch, { batch, peakBytes }]: [string, EndToEndTraining]): Bar[] =>
    (Object.keys(peakBytes) as Side[]).map((side) => bar(`${arch}, batch ${batch}`, `${sides[side]}, from JPEGs`, [peakBytes[side]! / 1e9]));
  return {
    title: `From JPEGs to a trained step, on ${name.endsWith("gpu") ? "a GPU" : "the CPU"}`,
    panels: [
      { title: "Training", axis: "images per second (more is better)", bars: trainings.flatMap(rates) },
      { title: "Memory, with the processes that load", axis: "peak, GB (less is better)", bars: trainings.flatMap(memory) },
    ],
    colours: ["#0a66c2", "#5b9bd5", "#6e7781", "#a3abb3"], // a dark and a light one for each program
    columns: [
      "network", "batch", "ours from JPEGs, images/s", "synthetic views, images/s", "kept", "upstream from JPEGs, images/s", "synthetic views, images/s", "kept",
      "ours over upstream", "peak memory, GB: ours, upstream",
    ],
    rows: trainings.map(([arch, training]) => [
      arch, String(training.batch), spread(rate(training, "ours", "photographs")), spread(rate(training, "ours", "synthetic")),
      factor(ratios[`${arch}KeptImagesPerSecond`]), spread(rate(training, "upstream", "photographs")), spread(rate(training, "upstream", "synthetic")),
      factor(ratios[`${arch}KeptImagesPerSecondUpstream`]), factor(ratios[`${arch}ImagesPerSecond`]),
      (["ours", "upstream"] as const).map((side) => number(training.peakBytes[side] && training.peakBytes[side] / 1e9)).join(", "),
    ]),
  };
}
