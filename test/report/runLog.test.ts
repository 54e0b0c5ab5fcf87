import { appendFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import {
  readRunLog, RunLog, RunLogError, type EvaluationEntry, type KnnEntry, type LogEntry, type RunEntry, type StepEntry,
} from "../../lib/report/index.js";
import { withFolder } from "../data/pixels.js";

const run = (firstStep: number): RunEntry => ({
  kind: "run", started: "2026-01-01T00:00:00.000Z", options: { lr: 0.1 }, versions: { node: "20.19.0" }, device: "cpu", images: 12,
  epochs: 2, stepsPerEpoch: 3, firstStep, resumedFrom: null,
});
const step = (number: number, loss = number): StepEntry => ({
  kind: "step", step: number, epoch: Math.floor(number / 3), stepInEpoch: number % 3, loss, lr: 0.1, momentum: 0.99, gradientNorm: 1,
  imagesPerSecond: 10, dataWaitMs: 1, stepMs: 400, scale: 1,
});

const knn = (epoch: number, acc1 = epoch): KnnEntry => ({
  kind: "knn", epoch, k: 20, acc1, acc5: 90, gallery: 12, queries: 12, leaveOneOut: true, seconds: 1,
});

function write(path: string, entries: readonly LogEntry[]): void {
  const log = new RunLog(path);
  entries.forEach((entry) => log.write(entry));
  log.close();
}

test("what is written is read", async () => {
  await withFolder({}, async (folder) => {
    const path = join(folder, "log.jsonl");
    write(path, [
      run(0), step(0), step(1), { kind: "badImage", path: "a.jpg", reason: "torn" },
      { kind: "checkpoint", file: "checkpoint_0000.pth.tar", steps: 3, stallMs: 12, totalMs: 345 },
      { kind: "warning", step: 1, what: "collapse", message: "the features collapse" },
      knn(0), { kind: "end", reason: "finished", seconds: 3 },
    ]);
    expect(readRunLog(path)).toEqual({
      runs: [run(0)],
      steps: [step(0), step(1)],
      evaluations: [],
      badImages: [{ kind: "badImage", path: "a.jpg", reason: "torn" }],
      checkpoints: [{ kind: "checkpoint", file: "checkpoint_0000.pth.tar", steps: 3, stallMs: 12, totalMs: 345 }],
      knn: [knn(0)],
      warnings: [{ kind: "warning", step: 1, what: "collapse", message: "the features collapse" }],
      end: { kind: "end", reason: "finished", seconds: 3 },
    });
  });
});

test("a resumed run does the lost steps again; a torn line is passed over", async () => {
  await withFolder({}, async (folder) => {
    const path = join(folder, "log.jsonl");
    const warning = (number: number): LogEntry => ({ kind: "warning", step: number, what: "chance", message: `of ${number}` });
    write(path, [run(0), step(0), step(1), warning(1), step(2), knn(0), step(3, 77), warning(3), knn(1, 77)]);
    appendFileSync(path, '{"kind":"step","st');
    expect(readRunLog(path).steps).toHaveLength(4);
    write(path, [run(3), step(3), step(4), step(5), knn(1)]);
    const record = readRunLog(path);
    expect(record.steps.map(({ step, loss }) => [step, loss])).toEqual([[0, 0], [1, 1], [2, 2], [3, 3], [4, 4], [5, 5]]);
    expect(record.knn).toEqual([knn(0), knn(1)]);
    expect(record.warnings).toEqual([warning(1)]);
    expect([record.runs.length, record.end]).toEqual([2, null]);
  });
});

test("evaluations are kept by epoch; a resumed run's replace those that were lost", async () => {
  await withFolder({}, async (folder) => {
    const path = join(folder, "log.jsonl");
    const evaluation = (epoch: number, acc1: number): EvaluationEntry =>
      ({ kind: "evaluation", epoch, acc1, acc5: 90, loss: 1.5, images: 40, best: true });
    write(path, [run(0), step(0), step(1), step(2), evaluation(0, 20), step(3), step(4), step(5), evaluation(1, 30)]);
    expect(readRunLog(path).evaluations).toEqual([evaluation(0, 20), evaluation(1, 30)]);
    write(path, [run(5), step(5), evaluation(1, 31)]);
    expect(readRunLog(path).evaluations).toEqual([evaluation(0, 20), evaluation(1, 31)]);
    expect(readRunLog(path).steps).toHaveLength(6);
  });
});

test("what is no log is refused", async () => {
  await withFolder({ "a.jsonl": '{"kind":"step"}\n', "b.jsonl": '{"kind":"run"}\nnonsense\n{"kind":"end"}\n' }, async (folder) => {
    expect(() => readRunLog(join(folder, "a.jsonl"))).toThrow(/no line that begins a run/);
    expect(() => readRunLog(join(folder, "b.jsonl"))).toThrow(/line 2 is not JSON/);
    expect(() => readRunLog(join(folder, "c.jsonl"))).toThrow(RunLogError);
    writeFileSync(join(folder, "d.jsonl"), "");
    expect(() => readRunLog(join(folder, "d.jsonl"))).toThrow(RunLogError);
  });
});
