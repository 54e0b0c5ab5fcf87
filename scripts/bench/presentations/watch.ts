import type { BenchmarkResult } from "../result.js";
import { spreadOf } from "../spread.js";
import { factor, percent, spread } from "./numbers.js";
import { bar, type Presentation } from "./presentation.js";

type Raw = Record<string, { seconds: { with: number[]; without: number[] } }>;

export function presentWatch({ ratios, raw }: BenchmarkResult): Presentation {
  const setups = Object.entries(raw as Raw).map(([name, { seconds }]) => ({ name, title: name.replace(/Batch(\d+)$/, ", batch $1"), seconds }));
  return {
    title: "What watching a training costs",
    panels: [
      {
        title: "Of a step's time", axis: "percent (less is better)", mark: 0.5, write: (value) => percent(value / 100),
        bars: setups.flatMap(({ name, title }) => [
          bar(title, "signals", [100 * ratios[`${name}Share`]!]), bar(title, "copy to go back to", [100 * ratios[`${name}RememberShare`]!]),
        ]),
      },
    ],
    columns: ["network", "signals, of a step", "copy to go back to, of a step", "step with both, s", "without, s", "with over without"],
    rows: setups.map(({ name, title, seconds }) => [
      title, percent(ratios[`${name}Share`]), percent(ratios[`${name}RememberShare`]), spread(spreadOf(seconds.with)), spread(spreadOf(seconds.without)),
      factor(ratios[`${name}Time`]),
    ]),
  };
}
