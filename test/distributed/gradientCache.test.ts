/** Batches in chunks, on several ranks: the whole batch in one process. */
import { describe, expect, test } from "@jest/globals";
import { maxAbsolute } from "../support/digest.js";
import { valuesOfRanks } from "../support/rankProcesses.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { train, type CachedSteps, type StepsResult } from "./gradientCacheTasks.js";

const tasks = new URL("./gradientCacheTasks.js", import.meta.url).href;

describe("two ranks that encode their parts in chunks", () => {
  expectNoTensorsLeft();
  const work: CachedSteps = { images: 12, steps: 4, chunk: null };

  test.each([4, 1, 6])("of %i give what one process gives on the whole batch", async (chunk) => {
    const whole = await train(null, work);
    for (const { losses, state } of await valuesOfRanks<StepsResult>(2, tasks, "train", { ...work, chunk })) {
      expect(maxAbsolute(losses as number[], whole.losses as number[])).toBeLessThan(1e-10);
      expect(Math.max(...state.map((values, i) => maxAbsolute(values, whole.state[i]!)))).toBeLessThan(1e-10);
    }
  });

  test("abandon a step together, and are where they were before it", async () => {
    const before = await valuesOfRanks<StepsResult>(2, tasks, "train", { ...work, steps: 1, chunk: 4 });
    const stopped = await valuesOfRanks<StepsResult>(2, tasks, "train", { ...work, chunk: 4, stopAt: 5 });
    expect(stopped.map(({ losses }) => losses)).toEqual(before.map(({ losses }) => [...losses, null]));
    expect(stopped.map(({ state }) => state)).toEqual(before.map(({ state }) => state));
  });
});
