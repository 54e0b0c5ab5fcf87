import { expect, test } from "@jest/globals";
import { axisRange, logRange, logTicks } from "../../../lib/report/run/axisRange.js";
import { chartSpecs } from "../../../lib/report/run/chartSpecs.js";
import { axisValues, chartTable, placeOf } from "../../../lib/report/run/chartTable.js";
import { formatHours, formatNumber, formatTick } from "../../../lib/report/run/formatNumber.js";
import type { RunSeries } from "../../../lib/report/run/pageData.js";

test("numbers are written for people", () => {
  const numbers = [0, 1, 2.23456, 1234.56, 1_234_567, 0.000123456, 0.00000529, -0.5, 4.2e12, NaN];
  expect(numbers.map((value) => formatNumber(value))).toEqual([
    "0", "1", "2.235", "1,235", "1,234,567", "0.0001235", "5.29 × 10⁻⁶", "−0.5", "4.2 × 10¹²", "–",
  ]);
  expect([0, 2500, 25_000, 1_000_000].map(formatTick)).toEqual(["0", "2,500", "25 k", "1 M"]);
  expect([0.5 / 3600, 42 / 3600, 0.1, 5.5, 70].map(formatHours)).toEqual(["0.5 s", "42 s", "6 min 00 s", "5 h 30 min", "2 days 22 h"]);
});

test("an axis has all values in it, and room around a single one", () => {
  expect(axisRange(1, 3)).toEqual([0.88, 3.12]);
  expect(axisRange(1, 3, [0])[0]).toBe(0);
  for (const value of [0, 5, -2]) {
    const [low, high] = axisRange(value, value);
    expect(low).toBeLessThan(value);
    expect(high).toBeGreaterThan(value);
  }
  expect(axisRange(Infinity, -Infinity)).toEqual([0, 1]);
  for (const [low, high] of [[3, 3], [0.02, 500], [1, 20]] as const) {
    const [bottom, top] = logRange(low, high);
    expect(bottom).toBeGreaterThan(0);
    expect(bottom).toBeLessThan(low);
    expect(top).toBeGreaterThan(high);
    expect(logTicks(bottom, top).length).toBeGreaterThanOrEqual(2);
  }
  expect(logTicks(0.9, 30)).toEqual([1, 2, 5, 10, 20]);
  expect(logTicks(1e-9, 1e9).length).toBeLessThanOrEqual(7);
});

const series = (length: number): RunSeries => ({
  name: "run", stepsPerEpoch: 10, marks: [],
  steps: {
    total: length, x: Array.from({ length }, (_, i) => i + 1), hours: Array.from({ length }, (_, i) => (i + 1) / 100), mean: {},
    y: { loss: Array.from({ length }, (_, i) => i % 2), gradientNorm: Array.from({ length }, (_, i) => (i === 1 ? 0 : 1)) },
  },
  knn: { x: [10], hours: [0.1], y: { acc1: [50], acc5: [70] } }, evaluations: { x: [], hours: [], y: {} },
});
const spec = (id: string) => chartSpecs.find((each) => each.id === id)!;

test("the axis counts steps, epochs or hours; events find their place on it", () => {
  const run = series(40);
  expect(axisValues(run, "steps", "steps").slice(0, 2)).toEqual([1, 2]);
  expect(axisValues(run, "steps", "epochs").slice(0, 2)).toEqual([0.1, 0.2]);
  expect(axisValues(run, "knn", "hours")).toEqual([0.1]);
  expect([placeOf(run, 10, "steps"), placeOf(run, 10, "epochs"), placeOf(run, 10, "hours"), placeOf(run, 99, "hours")]).toEqual([10, 1, 0.1, 0.4]);
});

test("noisy lines get a mean of their neighbours; a logarithmic axis has no place for 0", () => {
  const table = chartTable(spec("loss"), series(300), "steps", true);
  expect(table.smooth![0]![150]).toBeCloseTo(0.5, 0);
  expect(table.y[0]!.slice(0, 3)).toEqual([0, 1, 0]);
  expect(chartTable(spec("loss"), series(300), "steps", false).smooth).toBeNull();
  expect(chartTable(spec("loss"), series(5), "steps", true).smooth).toBeNull();
  expect(chartTable(spec("gradient-norm"), series(5), "steps", true).y[0]).toEqual([1, null, 1, 1, 1]);
  expect(chartTable(spec("evaluation"), series(5), "steps", true)).toEqual({ x: [], y: [[], [], []], smooth: null });
});
