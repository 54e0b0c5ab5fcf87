import { describe, expect, test } from "@jest/globals";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { runRanks, valuesOfRanks } from "../support/rankProcesses.js";
import { gradientsOfWhole } from "./trainingTasks.js";

const tasks = new URL("./trainingTasks.js", import.meta.url).href;
const [steps, rows] = [4, 12];

describe("GradientAverager", () => {
  expectNoTensorsLeft();

  // The second size makes a bucket of each parameter.
  test.each([
    [2, "prepare", 25], [3, "prepare", 25], [2, "prepare", 1e-6], [2, "average", 25], [3, "average", 1e-6], [2, "both", 25],
  ] as const)("%i ranks (%s, buckets of %d MB) get the gradients of the whole batch", async (size, how, bucketMegabytes) => {
    const whole = gradientsOfWhole(steps, rows);
    for (const parts of await valuesOfRanks<number[][][]>(size, tasks, "gradientsOfParts", { steps, rows, how, bucketMegabytes })) {
      const worst = whole.map((parameters, step) => {
        // A bias before a normalisation has no gradient but rounding: judge by the largest of all.
        const largest = Math.max(...parameters.flat().map(Math.abs));
        return Math.max(...parameters.map((values, i) => Math.max(...values.map((value, j) => Math.abs(value - parts[step]![i]![j]!))))) / largest;
      });
      expect(Math.max(...worst)).toBeLessThan(1e-12);
    }
  });

  test("a parameter that backward does not reach, and networks that differ between ranks, are refused", async () => {
    for (const { error } of await runRanks(2, tasks, "unusedParameter")) {
      expect(error!.message).toMatch(/were not averaged: backward did not reach the parameters numbered \[6, 7\]/);
    }
    const ends = await runRanks(2, tasks, "differentNetworks");
    expect(ends.some(({ error }) => error !== undefined)).toBe(true);
  });

  test.each([["gradients", false], ["batch norm", true]] as const)("a rank that dies shows in backward as a CollectiveError of %j", async (collective, withNorm) => {
    const ends = await runRanks(3, tasks, "deathInBackward", { withNorm }, { timeoutMs: 30_000 });
    for (const rank of [0, 2]) {
      expect(ends[rank]!.error).toMatchObject({ name: "CollectiveError", facts: { step: 5, collective, silent: [1] } });
    }
  });
});
