import { expect, test } from "@jest/globals";
import { StopTime } from "../../lib/train/runs/stopTime.js";

function told(measure: (time: StopTime) => void): string[] {
  const warnings: string[] = [];
  measure(new StopTime((message) => void warnings.push(message)));
  return warnings;
}

test("says once that steps are too long to stop in time, and what helps", () => {
  const warnings = told((time) => [90_000, 8500, 9000].forEach((ms) => time.step(ms)));
  expect(warnings).toEqual([expect.stringMatching(/one step takes 8\.5 s, so after SIGTERM too little is left for a checkpoint of the 10 s.*--micro-batch N.*--batch-size/)]);
});

test("says so of saves that are long beside their steps", () => {
  const warnings = told((time) => {
    [3000, 3000].forEach((ms) => time.step(ms));
    time.saved(2000);
    time.saved(7500);
  });
  expect(warnings).toEqual([expect.stringMatching(/one step takes 3\.0 s and a checkpoint 7\.5 s, so after SIGTERM it can take 18 s.*faster disk/)]);
});

test("says nothing where there is time, and nothing of the first step, which takes memory", () => {
  expect(told((time) => {
    [20_000, 7900, 7000].forEach((ms) => time.step(ms));
    time.saved(2000);
  })).toEqual([]);
});
