import { functionSides, type FunctionTimes } from "../functions.js";
import type { BenchmarkResult } from "../result.js";
import { spreadOf } from "../spread.js";
import { factor, spread } from "./numbers.js";
import { bar, type Presentation } from "./presentation.js";

const measured: Readonly<Record<keyof FunctionTimes, string>> = {
  forward: "a call", backward1: "a backward pass through one", backward20: "a backward pass through twenty",
};

export function presentFunctions({ ratios, raw }: BenchmarkResult): Presentation {
  const rounds = raw as Record<(typeof functionSides)[number], FunctionTimes[]>;
  const names = Object.keys(measured) as (keyof FunctionTimes)[];
  const columns = ["the operator x·x", "a function in TypeScript", "the same, its pass in another thread"];
  const times = (i: number, name: keyof FunctionTimes): number[] => rounds[functionSides[i]!].map((each) => each[name]);
  const panel = {
    title: "A function of one's own beside the operator in it", axis: "microseconds, one thread (less is better)", logarithmic: true,
    bars: names.flatMap((name) => columns.map((side, i) => bar(measured[name], side, times(i, name)))),
  };
  return {
    title: "A function with a backward in TypeScript",
    panels: [panel],
    columns: ["", ...columns.map((each) => `${each}, µs`), "function over operator"],
    rows: names.map((name) => [measured[name], ...columns.map((_, i) => spread(spreadOf(times(i, name)))), factor(ratios[name])]),
  };
}
