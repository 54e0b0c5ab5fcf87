import type { ChartSpec } from "./chartSpecs.js";
import type { RunSeries } from "./pageData.js";

/** What the horizontal axis counts. */
export type Axis = "steps" | "epochs" | "hours";

export const axisWords: Record<Axis, string> = { steps: "steps done", epochs: "epochs done", hours: "training time in hours" };

/** A run's part of a chart: columns of one length, the first of them rising. */
export interface ChartTable {
  x: number[];
  /** For each line of the chart. */
  y: (number | null)[][];
  /** For each line the mean of what is around each point; null where the lines are not smoothed. */
  smooth: (number | null)[][] | null;
}

/** Neighbours whose mean is drawn: a sixtieth of the run. */
const windowShare = 1 / 60;
/** With fewer points there is nothing to smooth. */
const fewestToSmooth = 30;

/** The figures of one run as a chart draws them. */
export function chartTable(spec: ChartSpec, run: RunSeries, axis: Axis, smoothed: boolean): ChartTable {
  const source = run[spec.source];
  const empty = (): (number | null)[] => source.x.map(() => null);
  const column = (values: (number | null)[] | undefined): (number | null)[] => (values ?? empty()).map((value) => drawable(value, spec));
  const lines = source.y as Record<string, (number | null)[] | undefined>;
  const means = spec.source === "steps" ? (run.steps.mean as Record<string, (number | null)[] | undefined>) : {};
  const smooth = smoothed && spec.noisy === true && source.x.length >= fewestToSmooth;
  return {
    x: axisValues(run, spec.source, axis),
    y: spec.lines.map(({ column: name }) => column(lines[name])),
    smooth: smooth ? spec.lines.map(({ column: name }) => movingMean(column(means[name] ?? lines[name]), spec.log === true)) : null,
  };
}

/** Where the rows of a run's table lie on the axis. */
export function axisValues(run: RunSeries, source: ChartSpec["source"], axis: Axis): number[] {
  const { x, hours } = run[source];
  if (axis === "steps") return x;
  return axis === "hours" ? hours : x.map((step) => step / run.stepsPerEpoch);
}

/** Where so many steps lie on the axis. */
export function placeOf(run: RunSeries, step: number, axis: Axis): number {
  if (axis === "steps") return step;
  if (axis === "epochs") return step / run.stepsPerEpoch;
  const { x, hours } = run.steps;
  const row = x.findIndex((done) => done >= step);
  return row < 0 ? (hours.at(-1) ?? 0) : hours[row]!;
}

/** A logarithmic axis has no place for 0. */
function drawable(value: number | null, { log }: ChartSpec): number | null {
  return value === null || (log === true && value <= 0) ? null : value;
}

/** The mean of each value and its neighbours; of their logarithms where the axis is logarithmic. */
function movingMean(values: (number | null)[], log: boolean): (number | null)[] {
  const half = Math.max(1, Math.round((values.length * windowShare) / 2));
  const sums = new Float64Array(values.length + 1);
  const counts = new Uint32Array(values.length + 1);
  values.forEach((value, i) => {
    sums[i + 1] = sums[i]! + (value === null ? 0 : log ? Math.log(value) : value);
    counts[i + 1] = counts[i]! + (value === null ? 0 : 1);
  });
  return values.map((value, i) => {
    const [start, end] = [Math.max(0, i - half), Math.min(values.length, i + half + 1)];
    const count = counts[end]! - counts[start]!;
    if (value === null || count === 0) return null;
    const mean = (sums[end]! - sums[start]!) / count;
    return log ? Math.exp(mean) : mean;
  });
}
