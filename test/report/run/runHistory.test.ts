import { expect, test } from "@jest/globals";
import { RunHistory } from "../../../lib/report/run/runHistory.js";
import { chartsOf, runSeries } from "../../../lib/report/run/pageData.js";
import { mostBuckets, sampleSteps } from "../../../lib/report/run/sampledSteps.js";
import type { LogEntry } from "../../../lib/report/index.js";
import { fullRun, runEntry, stepEntry, steps } from "./sampleRun.js";

function historyOf(entries: readonly LogEntry[]): RunHistory {
  const history = new RunHistory();
  entries.forEach((entry) => history.add(entry));
  return history;
}

test("a run that was resumed has each step once, and what was lost is gone", () => {
  const history = historyOf([
    ...fullRun().slice(0, 1), ...steps(0, 15, { loss: 9 }), { kind: "warning", step: 12, what: "dip", message: "lost" },
    { kind: "checkpoint", file: "checkpoint_0001.pth.tar", steps: 15, stallMs: 1, totalMs: 1 },
    runEntry({ firstStep: 10, resumedFrom: "checkpoint_0000.pth.tar" }), ...steps(10, 20, { loss: 1 }),
  ]);
  expect(history.steps.length).toBe(20);
  expect([9, 10, 19].map((row) => [history.steps.step(row), history.steps.value("loss", row)])).toEqual([[9, 9], [10, 1], [19, 1]]);
  expect(history.events).toEqual([{ kind: "resumed", step: 10, text: "resumed at step 10 from checkpoint_0000.pth.tar" }]);
  expect(history.generation).toBe(1);
  expect(history.steps.hours(19)).toBeCloseTo((20 * 500) / 3_600_000);
  // The line that would tell of it may be lost.
  history.add(stepEntry(15, { loss: 2 }));
  expect([history.steps.length, history.stepsDone, history.generation]).toEqual([16, 16, 2]);
});

test("events stand at the steps that were done then, figures of epochs at their last step", () => {
  const history = historyOf(fullRun());
  expect(history.events.map(({ kind, step }) => [kind, step])).toEqual([
    ["checkpoint", 10], ["bad-image", 10], ["resumed", 10], ["warning", 23], ["spike", 31],
  ]);
  expect(history.end).toMatchObject({ reason: "failed" });
  const series = runSeries("full", history);
  expect(series.knn).toMatchObject({ x: [10, 20], y: { acc1: [30, 40], acc5: [60, 70] } });
  expect(series.knn.hours[1]).toBeCloseTo((20 * 500) / 3_600_000, 8);
  expect(series.steps.x.slice(0, 2)).toEqual([1, 2]);
  expect(series.marks).toHaveLength(5);
});

test("charts without figures are left out", () => {
  const ids = (entries: readonly LogEntry[]): string[] => chartsOf([historyOf(entries)]).map(({ id }) => id);
  expect(ids([runEntry()])).toEqual([]);
  expect(ids([runEntry(), stepEntry(0)])).toEqual(["loss", "lr", "momentum", "throughput", "wait", "step-time", "gradient-norm"]);
  expect(ids(fullRun())).toEqual([
    "loss", "lr", "momentum", "knn", "throughput", "wait", "step-time", "gradient-norm", "gradient-layers", "gradient-ratio", "contrast",
    "cosines", "spread", "chance", "distance",
  ]);
  expect(ids([runEntry(), stepEntry(0, { scale: 65_536 })])).toContain("scale");
  const probe = runEntry({ options: { rates: [0.1] } });
  const unit = (entry: LogEntry): string => chartsOf([historyOf([entry, stepEntry(0)])])[0]!.unit;
  expect([unit(runEntry()), unit(probe)]).toEqual(["nats × 2 temperature", "nats"]);
});

test("a long run is thinned out to a bounded size, and no spike is lost", () => {
  const history = historyOf([runEntry({ stepsPerEpoch: 1000 })]);
  const spikes = new Map([[12_345, 900], [40_000, -7], [99_999, 77]]);
  for (let step = 0; step < 100_000; step++) history.steps.add(stepEntry(step, { loss: spikes.get(step) ?? (step % 2) / 10 }));
  const sampled = sampleSteps(history.steps);
  expect(sampled.total).toBe(100_000);
  expect(sampled.x).toHaveLength(2 * mostBuckets);
  expect([sampled.x[0], sampled.x.at(-1)]).toEqual([1, 100_000]);
  expect(sampled.x.every((x, i) => i === 0 || x > sampled.x[i - 1]!)).toBe(true);
  const loss = sampled.y.loss!;
  for (const [step, value] of spikes) {
    const at = loss.indexOf(value);
    expect(Math.abs(sampled.x[at]! - step)).toBeLessThanOrEqual(100_000 / mostBuckets);
  }
  // A part's lowest and highest stand in the order in which they came; its mean is that of all of it.
  expect(loss.slice(0, 2)).toEqual([0, 0.1]);
  expect(sampled.mean.loss![0]).toBeCloseTo(0.05, 2);
  expect(sampled.mean.momentum).toBeUndefined(); // its figures are all the same
  expect(JSON.stringify(runSeries("long", history)).length).toBeLessThan(300_000);
});

test("up to a limit all steps are given as they are; a column begins where its figures do", () => {
  const history = historyOf([runEntry(), ...steps(0, 3), stepEntry(3, { acc1: 50, gradientNorm: null })]);
  const { x, y, mean } = sampleSteps(history.steps);
  expect(x).toEqual([1, 2, 3, 4]);
  expect(y.acc1).toEqual([null, null, null, 50]);
  expect(y.gradientNorm!.at(-1)).toBeNull();
  expect(mean).toEqual({});
  expect(sampleSteps(history.steps, { from: 3 })).toMatchObject({ total: 1, x: [4], y: { acc1: [50] } });
  expect(sampleSteps(history.steps, { from: 4 })).toMatchObject({ total: 0, x: [] });
});
