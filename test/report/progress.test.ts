import { PassThrough } from "node:stream";
import { expect, test } from "@jest/globals";
import { CountProgress, formatDuration, TrainingProgress, type StepEntry } from "../../lib/report/index.js";

const step = (number: number): StepEntry => ({
  kind: "step", step: number, epoch: Math.floor(number / 4), stepInEpoch: number % 4, loss: 5.25, lr: 1.5e-4, momentum: 0.99,
  gradientNorm: 1, imagesPerSecond: 512, dataWaitMs: 50, stepMs: 500, scale: 1,
});

function record(terminal: boolean, columns = 120): { stream: NodeJS.WriteStream; text: () => string } {
  const stream = Object.assign(new PassThrough(), { isTTY: terminal, columns, clearLine() {}, cursorTo() {} });
  let text = "";
  stream.on("data", (chunk: Buffer) => (text += chunk.toString()));
  return { stream: stream as unknown as NodeJS.WriteStream, text: () => text };
}

test("without a terminal: a line every so many steps", () => {
  const { stream, text } = record(false);
  const progress = new TrainingProgress({ epochs: 2, stepsPerEpoch: 4, printEvery: 2, stream });
  for (let i = 0; i < 8; i++) progress.step(step(i));
  progress.stop();
  expect(text().trimEnd().split("\n")).toEqual([
    "epoch 1/2  step 1/4  loss 5.2500  lr 1.50e-4  m 0.9900  512 img/s  wait 10%  left 4s",
    "epoch 1/2  step 3/4  loss 5.2500  lr 1.50e-4  m 0.9900  512 img/s  wait 10%  left 3s",
    "epoch 2/2  step 1/4  loss 5.2500  lr 1.50e-4  m 0.9900  512 img/s  wait 10%  left 2s",
    "epoch 2/2  step 3/4  loss 5.2500  lr 1.50e-4  m 0.9900  512 img/s  wait 10%  left 1s",
  ]);
});

test("on a terminal: a bar for each epoch", () => {
  const { stream, text } = record(true);
  const progress = new TrainingProgress({ epochs: 2, stepsPerEpoch: 4, printEvery: 1000, lastStep: 6, stream });
  for (let i = 0; i < 6; i++) progress.step(step(i));
  progress.stop();
  expect(text()).toContain("epoch 1/2 [");
  expect(text()).toContain("4/4  loss 5.2500  lr 1.50e-4  m 0.9900  512 img/s  wait 10%  left 1s");
  expect(text()).toContain("epoch 2/2 [");
  expect(text()).toContain("2/4  loss 5.2500");
});

test("on a narrow terminal: no bar, and the figures that fit, what is unusual and the loss first", () => {
  for (const [columns, figures] of [[40, "1/2 4/4 loss 5.2500 left 2s lr 1.50e-4"], [24, "1/2 4/4 loss 5.2500"]] as const) {
    const { stream, text } = record(true, columns);
    const progress = new TrainingProgress({ epochs: 2, stepsPerEpoch: 4, printEvery: 1000, stream });
    for (let i = 0; i < 4; i++) progress.step(step(i));
    progress.stop();
    expect(text()).toContain(figures);
    expect(text()).not.toMatch(/\[[^?\d]|512 img/);
  }
});

test("a step of training with labels shows its accuracy, and no momentum", () => {
  const { stream, text } = record(false);
  new TrainingProgress({ epochs: 2, stepsPerEpoch: 4, printEvery: 1, stream }).step({ ...step(0), momentum: undefined, acc1: 12.34 });
  expect(text()).toBe("epoch 1/2  step 1/4  loss 5.2500  lr 1.50e-4  acc@1 12.3%  512 img/s  wait 10%  left 4s\n");
});

test("counts: a line for each tenth, or a bar on a terminal", () => {
  const lines = record(false);
  const progress = new CountProgress("features", { stream: lines.stream });
  for (let done = 3; done <= 48; done += 3) progress.update(done, 48);
  progress.stop();
  expect(lines.text().trimEnd().split("\n")).toEqual([6, 12, 15, 21, 24, 30, 36, 39, 45, 48].map((done) => `features  ${done}/48`));
  const bar = record(true);
  const drawn = new CountProgress("features", { stream: bar.stream });
  for (const done of [16, 48]) drawn.update(done, 48);
  expect(bar.text()).toContain("features [");
  expect(bar.text()).toContain("48/48");
});

test("durations", () => {
  expect([0.4, 59.4, 60, 192, 3600, 7500, 86_400, 367_200].map(formatDuration)).toEqual([
    "0s", "59s", "1m 00s", "3m 12s", "1h 00m", "2h 05m", "1d 00h", "4d 06h",
  ]);
});
