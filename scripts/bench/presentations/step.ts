import type { BenchmarkResult } from "../result.js";
import { presentSteps, type StepSide } from "./trainingSteps.js";
import type { Presentation } from "./presentation.js";

interface Measured {
  seconds: Partial<Record<StepSide, number[]>>;
  peakBytes: Partial<Record<StepSide, number>>;
}

export function presentStep({ settings, ratios, raw }: BenchmarkResult): Presentation {
  const steps = Object.entries(raw as Record<string, Measured>).map(([network, { seconds, peakBytes }]) => {
    const over = (ratio: number | undefined): number | undefined => (ratio === undefined ? undefined : 1 / ratio);
    return {
      network,
      batch: settings["batch"] as number,
      sides: Object.fromEntries(Object.entries(seconds).map(([side, each]) => [side, { seconds: each, peakBytes: peakBytes[side as StepSide]! }])),
      over: {
        upstream: over(ratios[`${network}Time`]), tuned: over(ratios[`${network}TimeOverTuned`]), compiled: over(ratios[`${network}TimeOverCompiled`]),
      },
      mfu: ratios[`${network}Mfu`],
    };
  });
  return presentSteps("A training step on the CPU", steps, { name: "s", perSecond: 1 });
}
