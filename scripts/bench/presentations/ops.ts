import type { BenchmarkResult } from "../result.js";
import { spreadOf } from "../spread.js";
import { factor, spread } from "./numbers.js";
import { bar, type Presentation } from "./presentation.js";

type Rounds = Record<string, number>[];

export function presentOperators({ ratios, raw }: BenchmarkResult): Presentation {
  const { ours, python } = raw as { ours: Rounds; python: Rounds };
  const names = Object.keys(ours[0]!);
  const times = (rounds: Rounds, name: string): number[] => rounds.map((round) => round[name]!);
  const panel = {
    title: "A call of an operator, on tensors of 8 × 8 numbers", axis: "nanoseconds per call, one thread (less is better)",
    bars: names.flatMap((name) => [bar(name, "ours, from TypeScript", times(ours, name)), bar(name, "PyTorch, from Python", times(python, name))]),
  };
  return {
    title: "The cost of calling an operator",
    panels: [panel],
    columns: ["operator", "ours, ns", "PyTorch from Python, ns", "ours over it"],
    rows: [
      ...names.map((name) => [name, spread(spreadOf(times(ours, name))), spread(spreadOf(times(python, name))), factor(ratios[name])]),
      ["**geometric mean**", "", "", `**${factor(ratios["geometricMean"])}**`],
    ],
  };
}
