/** Gradients are averaged also in a backward that calls JavaScript, and that runs in another thread than JavaScript's. */
import { expect, test } from "@jest/globals";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { runRanks, valuesOfRanks } from "../support/rankProcesses.js";
import { gradientsOfWhole } from "./trainingTasks.js";

const tasks = new URL("./customFunctionTasks.js", import.meta.url).href;

expectNoTensorsLeft();

test("a backward in another thread averages to the gradients of the whole batch", async () => {
  const [steps, rows] = [2, 12];
  const whole = gradientsOfWhole(steps, rows).flat(2);
  const largest = Math.max(...whole.map(Math.abs));
  for (const parts of await valuesOfRanks<number[][][]>(2, tasks, "gradientsElsewhere", { steps, rows, how: "prepare", bucketMegabytes: 1e-6 })) {
    const differences = parts.flat(2).map((value, i) => Math.abs(value - whole[i]!));
    expect(differences.length).toBe(whole.length);
    expect(Math.max(...differences) / largest).toBeLessThan(1e-12);
  }
});

test("so does one through a function of one's own", async () => {
  for (const difference of await valuesOfRanks<number>(2, tasks, "averagingOwnFunction")) expect(difference).toBeLessThan(1e-12);
});

test("a rank that dies meanwhile shows as a CollectiveError, an error of the function as itself", async () => {
  const ends = await runRanks(2, tasks, "deathInOwnFunction", {}, { timeoutMs: 30_000 });
  expect(ends[0]!.error).toMatchObject({ name: "CollectiveError", facts: { step: 5, collective: "gradients", silent: [1] } });
  for (const { error } of await runRanks(2, tasks, "errorInOwnFunction")) expect(error).toMatchObject({ name: "RangeError", message: "mine" });
});
