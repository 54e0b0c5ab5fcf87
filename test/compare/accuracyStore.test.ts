import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { AccuracyStore } from "../../scripts/compare/accuracyStore.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

const folder = temporaryFolder("accuracies");

test("what was trained is not trained again, also by the next run; another recipe or seed is", async () => {
  const path = join(folder, "accuracies.json");
  let trained = 0;
  const train = async (): Promise<number> => ++trained / 10;
  const training = { method: "linear probe", side: "ours", seed: 0, recipe: { epochs: 2 } };
  const store = new AccuracyStore(path);
  expect(await store.get(training, train)).toBe(0.1);
  expect(await store.get(training, train)).toBe(0.1);
  // Two sides at once.
  expect(await Promise.all([store.get({ ...training, seed: 1 }, train), store.get({ ...training, side: "PyTorch" }, train)])).toEqual([0.2, 0.3]);
  const again = new AccuracyStore(path);
  expect(await again.get(training, train)).toBe(0.1);
  expect(await again.get({ ...training, side: "PyTorch" }, train)).toBe(0.3);
  expect(await again.get({ ...training, recipe: { epochs: 3 } }, train)).toBe(0.4);
  await expect(again.get({ ...training, seed: 9 }, () => Promise.reject(new Error("diverged")))).rejects.toThrow("diverged");
  expect(await new AccuracyStore(path).get({ ...training, seed: 9 }, train)).toBe(0.5);
});
