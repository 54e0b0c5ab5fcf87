import { spreadOf, type Spread } from "../spread.js";

/** A bar of a chart: the median, with the range as a line over it. */
export interface Bar extends Spread {
  group: string;
  side: string;
}

/** One set of bars with an axis of their own. */
export interface Panel {
  title: string;
  /** What is measured, with its unit and which way is better. */
  axis: string;
  bars: Bar[];
  /** How a bar's value is written at its end. Default: three digits. */
  write?: (value: number) => string;
  /** For values that lie factors of a hundred apart. */
  logarithmic?: boolean;
  /** A line across the bars at what is aimed for, or at equality. */
  mark?: number;
}

/** What a benchmark's table and chart show. */
export interface Presentation {
  title: string;
  panels: Panel[];
  /** Of the sides, in their order. Default: the chart's own, the first of which stands out. */
  colours?: string[];
  /** Headings of the table. */
  columns: string[];
  rows: string[][];
}

/** A bar of repeated measurements, or of a single one. */
export function bar(group: string, side: string, values: readonly number[] | Spread): Bar {
  return { group, side, ...("median" in values ? values : spreadOf(values)) };
}
