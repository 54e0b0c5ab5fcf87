import { PassThrough } from "node:stream";
import { expect, test } from "@jest/globals";
import { formatDuration, TrainingProgress, type StepEntry } from "../../lib/report/index.js";

const step = (number: number): StepEntry => ({
  kind: "step", step: number, epoch: Math.floor(number / 4), stepInEpoch: number % 4, loss: 5.25, lr: 1.5e-4, momentum: 0.99,
  gradientNorm: 1, imagesPerSecond: 512, dataWaitMs: 50, stepMs: 500, scale: 1,
});

function record(terminal: boolean): { stream: NodeJS.WriteStream; text: () => string } {
  const stream = Object.assign(new PassThrough(), { isTTY: terminal, columns: 120, clearLine() {}, cursorTo() {} });
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

test("durations", () => {
  expect([0.4, 59.4, 60, 192, 3600, 7500, 86_400, 367_200].map(formatDuration)).toEqual([
    "0s", "59s", "1m 00s", "3m 12s", "1h 00m", "2h 05m", "1d 00h", "4d 06h",
  ]);
});
