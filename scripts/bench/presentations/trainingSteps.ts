import { converted, spreadOf, type Spread } from "../spread.js";
import { factor, number, percent, spread } from "./numbers.js";
import { bar, type Bar, type Panel, type Presentation } from "./presentation.js";

/** Who takes the steps, in the order of the table, with the names that readers see. */
export const stepSides = {
  ours: "ours", upstream: "upstream", tuned: "PyTorch, for speed", compiled: "PyTorch, compiled", oursGraph: "ours, CUDA graph",
  oursOtherPrecision: "ours, other precision", oursDeterministic: "ours, deterministic", oursNchw: "ours, channels first", tunedNchw: "PyTorch, channels first",
} as const;

export type StepSide = keyof typeof stepSides;

/** Shown apart from the programs that they are variants of. */
export const stepVariants: readonly StepSide[] = ["oursGraph", "oursOtherPrecision", "oursDeterministic", "oursNchw", "tunedNchw"];

/** A network and batch whose training steps were measured. */
export interface TrainingSteps {
  network: string;
  batch: number;
  sides: Partial<Record<StepSide, { seconds: readonly number[]; peakBytes: number }>>;
  /** Our images/s over a side's. */
  over: Partial<Record<StepSide, number>>;
  /** Share of the matrix product's arithmetic per second. */
  mfu?: number;
}

/** Images per second and peak memory of training steps, ours beside each peer's. */
export function presentSteps(title: string, steps: readonly TrainingSteps[], unit: { name: "s" | "ms"; perSecond: number }): Presentation {
  const measured = (Object.keys(stepSides) as StepSide[]).filter((side) => steps.some(({ sides }) => sides[side]));
  const others = measured.filter((side) => side !== "ours");
  const variants = measured.filter((side) => stepVariants.includes(side));
  const programs = measured.filter((side) => !variants.includes(side));
  const rate = (step: TrainingSteps, side: StepSide): Bar => bar(group(step), stepSides[side], imagesPerSecond(step, side)!);
  const group = ({ network, batch }: TrainingSteps): string => `${network}, batch ${batch}`;
  const bars = (shown: StepSide[], make: (step: TrainingSteps, side: StepSide) => Bar): Bar[] =>
    steps.flatMap((step) => shown.filter((side) => step.sides[side]).map((side) => make(step, side)));
  const panels: Panel[] = [
    {
      title: "A training step", axis: "images per second (more is better)",
      bars: bars(programs, rate),
    },
    ...(variants.length === 0 ? [] : [{
      title: "Variants: other precision, kernels that repeat to the bit, and more", axis: "images per second (more is better)",
      bars: steps.filter(({ sides }) => variants.some((side) => sides[side])).flatMap((step) =>
        (["ours", ...variants] as const).filter((side) => step.sides[side]).map((side) => rate(step, side))),
    }]),
    {
      title: "Memory", axis: "peak, GB (less is better)",
      bars: bars(programs, (step, side) => bar(group(step), stepSides[side], [step.sides[side]!.peakBytes / 1e9])),
    },
  ];
  const row = (step: TrainingSteps): string[] => [
    step.network,
    String(step.batch),
    number(imagesPerSecond(step, "ours")?.median),
    step.sides.ours ? spread(converted(spreadOf(step.sides.ours.seconds), (seconds) => seconds * unit.perSecond)) : spread(undefined),
    ...others.map((side) => {
      const over = step.over[side];
      return `${number(imagesPerSecond(step, side)?.median)}${over === undefined || Number.isNaN(over) ? "" : ` (${factor(over)} ×)`}`;
    }),
    percent(step.mfu),
    ...programs.map((side) => number(step.sides[side] && step.sides[side].peakBytes / 1e9)),
  ];
  const columns = [
    "network", "batch", "ours, images/s", `${unit.name} per step`, ...others.map((side) => `${stepSides[side]} (ours over it)`),
    "of the matrix product", ...programs.map((side) => `peak GB, ${stepSides[side]}`),
  ];
  return { title, panels, columns, rows: steps.map(row) };
}

/** Undefined where the side was not measured. */
export function imagesPerSecond({ sides, batch }: Pick<TrainingSteps, "sides" | "batch">, side: StepSide): Spread | undefined {
  const measured = sides[side];
  return measured && converted(spreadOf(measured.seconds), (seconds) => batch / seconds);
}
