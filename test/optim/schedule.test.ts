import { describe, expect, test } from "@jest/globals";
import { learningRateAt, momentumAt, probeLearningRateAt, scaledLearningRate, ScheduleError } from "../../lib/optim/index.js";
import { readJson } from "../support/fixtures.js";

interface PretrainSchedule {
  config: { base_lr: number; batch: number; epochs: number; warmup: number; ipe: number; m: number };
  scaled_lr: number;
  rows: [epoch: number, i: number, fraction: number, lr: number, momentum: number][];
}

interface ProbeSchedule {
  config: { base_lr: number; batch: number; epochs: number };
  init_lr: number;
  lr_per_epoch: number[];
}

describe("pre-training", () => {
  const schedules = readJson<PretrainSchedule[]>("schedule/pretrain.json");

  test.each(schedules)("learning rate and momentum of $config are the reference's, bit for bit", ({ config, scaled_lr: lr, rows }) => {
    expect(scaledLearningRate(config.base_lr, config.batch)).toBe(lr);
    for (const [epoch, i, fraction, expectedLr, expectedMomentum] of rows) {
      expect(epoch + i / config.ipe).toBe(fraction);
      expect(learningRateAt(fraction, { lr, epochs: config.epochs, warmupEpochs: config.warmup })).toBe(expectedLr);
      expect(momentumAt(fraction, { momentum: config.m, epochs: config.epochs })).toBe(expectedMomentum);
    }
  });

  test("starts at exactly zero, peaks at the end of the warm-up and ends at zero", () => {
    const run = { lr: 0.6, epochs: 100, warmupEpochs: 10 };
    expect(learningRateAt(0, run)).toBe(0);
    expect(learningRateAt(10, run)).toBe(0.6);
    expect(learningRateAt(100, run)).toBe(0);
    expect(momentumAt(100, { momentum: 0.99, epochs: 100 })).toBe(1);
  });
});

describe("linear probe", () => {
  test.each(readJson<ProbeSchedule[]>("schedule/lincls.json"))("learning rate of $config is the reference's, bit for bit", (schedule) => {
    const { config, init_lr: lr, lr_per_epoch: expected } = schedule;
    expect(scaledLearningRate(config.base_lr, config.batch)).toBe(lr);
    expect(expected.map((_, epoch) => probeLearningRateAt(epoch, { lr, epochs: config.epochs }))).toEqual(expected);
  });
});

test.each([
  [-1, 10],
  [Number.NaN, 10],
  [0, 0],
])("epoch %d of a run of %d epochs is an error", (epoch, epochs) => {
  expect(() => learningRateAt(epoch, { lr: 1, epochs })).toThrow(ScheduleError);
  expect(() => momentumAt(epoch, { momentum: 0.9, epochs })).toThrow(ScheduleError);
  expect(() => probeLearningRateAt(epoch, { lr: 1, epochs })).toThrow(ScheduleError);
});
