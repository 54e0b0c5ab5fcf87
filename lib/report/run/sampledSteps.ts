import { columnNames, type ColumnName, type StepColumns } from "./stepColumns.js";

/** Steps as charts draw them: at most so many, each with what it stands for. */
export interface SampledSteps {
  /** Steps of the run that these rows stand for, from the first to the last. */
  total: number;
  /** Steps done after each, rising. */
  x: number[];
  /** Time that all steps up to each took, in hours. */
  hours: number[];
  /** For each column that the run has: its figure in each row, null where it has none. */
  y: Partial<Record<ColumnName, (number | null)[]>>;
  /** The mean of what each row stands for; only where that is not the figure itself. */
  mean: Partial<Record<ColumnName, (number | null)[]>>;
}

/** A chart is at most some 1,000 pixels wide: more is not seen. */
export const mostBuckets = 600;

/**
 * All steps of a run, in at most two rows for each of `buckets` parts of equal length: the lowest and the highest figure of that part, in the
 * order in which they came, so that no spike is lost, however long the run is. Up to `2 * buckets` steps are given as they are.
 *
 * @param from row to begin with
 */
export function sampleSteps(steps: StepColumns, { from = 0, buckets = mostBuckets }: { from?: number; buckets?: number } = {}): SampledSteps {
  const rows = steps.length - from;
  const sampled: SampledSteps = { total: rows, x: [], hours: [], y: {}, mean: {} };
  if (rows <= 0) return sampled;
  const names = columnNames.filter((name) => steps.has(name));
  const whole = rows <= 2 * buckets;
  const bounds = Array.from({ length: (whole ? rows : buckets) + 1 }, (_, i) => from + Math.floor((i * rows) / (whole ? rows : buckets)));
  for (let i = 0; i + 1 < bounds.length; i++) {
    for (const row of whole ? [bounds[i]!] : [bounds[i]!, bounds[i + 1]! - 1]) {
      sampled.x.push(steps.step(row) + 1);
      sampled.hours.push(short(steps.hours(row), 6)!);
    }
  }
  for (const name of names) {
    const y: (number | null)[] = [];
    const mean: (number | null)[] = [];
    let constant = true;
    for (let i = 0; i + 1 < bounds.length; i++) {
      const part = extremes(steps, name, bounds[i]!, bounds[i + 1]!);
      if (whole) {
        y.push(short(part.first));
        continue;
      }
      y.push(short(part.first), short(part.second));
      mean.push(short(part.mean), short(part.mean));
      constant &&= part.first === part.second || (Number.isNaN(part.first) && Number.isNaN(part.second));
    }
    sampled.y[name] = y;
    if (!whole && !constant) sampled.mean[name] = mean;
  }
  return sampled;
}

/** Lowest and highest figure of rows, in the order in which they came, and their mean; NaN where none has one. */
function extremes(steps: StepColumns, name: ColumnName, start: number, end: number): { first: number; second: number; mean: number } {
  let [low, high, lowRow, highRow, sum, count] = [NaN, NaN, 0, 0, 0, 0];
  for (let row = start; row < end; row++) {
    const value = steps.value(name, row);
    if (Number.isNaN(value)) continue;
    if (!(value >= low)) [low, lowRow] = [value, row];
    if (!(value <= high)) [high, highRow] = [value, row];
    sum += value;
    count++;
  }
  const [first, second] = lowRow <= highRow ? [low, high] : [high, low];
  return { first, second, mean: sum / count };
}

/** Enough digits for a chart; null for what JSON has no number for. */
function short(value: number, digits = 5): number | null {
  return Number.isFinite(value) ? Number(value.toPrecision(digits)) : null;
}
