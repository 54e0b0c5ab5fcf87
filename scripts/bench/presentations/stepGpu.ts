import type { BenchmarkResult } from "../result.js";
import type { Presentation } from "./presentation.js";
import { imagesPerSecond, presentSteps, stepSides, stepVariants, type StepSide, type TrainingSteps } from "./trainingSteps.js";

type Measured = Partial<Record<StepSide, { seconds: number[]; peakBytes: number }>>;

export function presentStepGpu({ ratios, raw }: BenchmarkResult): Presentation {
  const steps = Object.entries(raw as Record<string, Measured>).map(([figure, measured]): TrainingSteps => {
    const [, network, batch] = /^(.*)_(\d+)$/.exec(figure)! as unknown as [string, string, string];
    const sides = Object.fromEntries(Object.entries(measured).filter(([side, each]) => side in stepSides && each !== undefined)) as Measured;
    const perSecond = (side: StepSide): number => imagesPerSecond({ sides, batch: Number(batch) }, side)?.median ?? NaN;
    const own = (side: StepSide): number => perSecond("ours") / perSecond(side);
    return {
      network, batch: Number(batch), sides,
      over: {
        upstream: ratios[`${figure}OverUpstream`], tuned: ratios[`${figure}OverTuned`], compiled: ratios[`${figure}OverCompiled`],
        ...Object.fromEntries(stepVariants.map((side) => [side, own(side)])),
      },
      mfu: ratios[`${figure}Mfu`],
    };
  });
  return presentSteps("A training step on a GPU", steps, { name: "ms", perSecond: 1000 });
}
