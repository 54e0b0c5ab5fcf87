/** `pretrain` in several processes: what all ranks do alike. That they train what one process trains is in exactness.test.ts. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { readCheckpoint, disposeTensors } from "../../lib/checkpoint/index.js";
import { readRunLog } from "../../lib/report/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { relativeL2, numbers } from "../support/digest.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import type { TinyOutcome } from "./tinyRank.js";
import { runTinyRanks, runTinyTrainings } from "./tinyRanks.js";

expectNoTensorsLeft();
const folder = temporaryFolder("ranks");

/** All weights and statistics of a checkpoint, one after the other. */
async function stateOf(path: string): Promise<Float64Array> {
  const value = await readCheckpoint<{ state_dict: Map<string, Tensor> }>(path);
  try {
    return Float64Array.from([...value.state_dict].filter(([key]) => !key.endsWith("num_batches_tracked")).flatMap(([, tensor]) => [...numbers(tensor)]));
  } finally {
    disposeTensors(value);
  }
}

describe("two ranks", () => {
  const out = (name: string): string => join(folder, name);
  let stopped: TinyOutcome[];
  let bad: TinyOutcome[];
  let tooBad: TinyOutcome[];
  let tooFew: TinyOutcome[];
  let differing: TinyOutcome[];
  let uneven: TinyOutcome[];
  beforeAll(async () => {
    [stopped, bad, tooBad, tooFew, differing, uneven] = (await runTinyTrainings(2, [
      (rank) => ({ options: { out: out("whole"), seed: rank === 0 ? 11 : 12 }, abortAfter: rank === 1 ? 4 : undefined }),
      () => ({ images: 24, bad: [2, 3, 9], options: { out: out("bad"), maxBad: 0.2 } }),
      // Each rank finds about half of the five, and only all together are more than 4 of 40.
      () => ({ images: 40, bad: [1, 2, 3, 4, 5], options: { maxBad: 0.1 } }),
      (rank) => (rank === 0 ? { options: {} } : { images: 3, options: {} }),
      (rank) => ({ options: { lr: rank === 0 ? 1e-3 : 1e-4 } }),
      () => ({ options: { batchSize: 5 } }),
    ])) as [TinyOutcome[], TinyOutcome[], TinyOutcome[], TinyOutcome[], TinyOutcome[], TinyOutcome[]];
  }, 120_000);

  test("rank 0 writes and tells, all have the same weights and losses, and one of them stops all", () => {
    // The first rank's seed counts.
    expect(stopped.map(({ error, seed }) => [error, seed])).toEqual([[null, 11], [null, 11]]);
    expect(stopped.map(({ reason }) => reason)).toEqual(["interrupted", "interrupted"]);
    expect(stopped[0]!.losses).toHaveLength(5); // the wish of rank 1 comes with its next step
    expect(stopped[1]!.losses).toEqual(stopped[0]!.losses);
    expect(stopped[1]!.weights).toBe(stopped[0]!.weights);
    expect(stopped[0]!.imagesPerStep).toEqual([4, 4, 4, 4, 4]); // of the whole batch
    expect([stopped[0]!.checkpoint !== null, stopped[1]!.checkpoint]).toEqual([true, null]);
    const log = readRunLog(join(out("whole"), "log.jsonl"));
    expect([log.runs.length, log.steps.length, log.end?.reason]).toEqual([1, 5, "interrupted"]);
    expect(log.runs[0]!.options).toMatchObject({ worldSize: 2, batchSize: 4 });
  });

  test("unreadable images leave all local batches full, and are known to all", () => {
    expect(bad.map(({ error }) => error)).toEqual([null, null]);
    expect(bad[0]!.losses).toHaveLength(12);
    expect(bad[1]!.losses).toEqual(bad[0]!.losses);
    for (const { badImages, told } of bad) {
      expect([...badImages].sort()).toEqual([2, 3, 9]);
      expect([...told].sort()).toEqual(["image 2", "image 3", "image 9"]);
    }
    expect(readRunLog(join(out("bad"), "log.jsonl")).badImages.map(({ path }) => path).sort()).toEqual(["image 2", "image 3", "image 9"]);
  });

  test("unreadable images stop all ranks when all together have found too many", () => {
    for (const { error } of tooBad) {
      expect(error?.name).toBe("TooManyBadImagesError");
      expect(error?.message).toMatch(/5 of 40 images/);
    }
  });

  test("where one rank cannot begin, none does, and all say why", () => {
    expect(tooFew[1]!.error).toMatchObject({ name: "TooFewImagesError" });
    expect(tooFew[0]!.error?.name).toBe("RankError");
    expect(tooFew[0]!.error?.message).toMatch(/rank 1 of 2 could not go on, so none does: the data set has 3 images/);
    for (const { error } of differing) expect(error?.message).toMatch(/rank 1 has lr 0.0001 and rank 0 0.001; give all ranks the same/);
  });

  test("a batch that cannot be shared evenly is refused with the nearest sizes", () => {
    for (const { error } of uneven) {
      expect(error).toMatchObject({ name: "OptionError", message: "batchSize is 5, which 2 processes cannot share evenly; give 4 or 6" });
    }
  });
});

test("a run goes on with other numbers of processes, from the middle of an epoch, without files on other ranks", async () => {
  const options = { precision: "fp64", epochs: 3, saveEverySteps: 1 } as const;
  const whole = join(folder, "one");
  await runTinyRanks(1, () => ({ options: { ...options, out: whole } }));
  const parts = join(folder, "parts");
  const nowhere = join(folder, "no folder of rank 0");
  for (const [i, [processes, stopAfter]] of ([[2, 2], [1, 2], [4, 3], [2, undefined]] as const).entries()) {
    const outcomes = await runTinyRanks(processes, (rank) => {
      const out = rank === 0 ? parts : nowhere;
      return { options: { ...options, out, stopAfter, resume: i === 0 ? undefined : out } };
    });
    expect(outcomes.map(({ error, warnings }) => [error, warnings])).toEqual(outcomes.map(() => [null, []]));
    expect(new Set(outcomes.map(({ weights }) => weights)).size).toBe(1);
  }
  expect(readdirSync(folder)).not.toContain("no folder of rank 0");
  const [found, expected] = await Promise.all([parts, whole].map((each) => stateOf(join(each, "checkpoint_0002.pth.tar"))));
  expect(relativeL2(found!, expected!)).toBeLessThan(1e-9); // float64: roundings of a few steps stay far below
}, 120_000);
