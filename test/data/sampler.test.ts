import { describe, expect, test } from "@jest/globals";
import { DataOptionError, RandomStream, Sampler, type EpochOrder } from "../../lib/data/index.js";
import { runPython, testPython } from "../support/python.js";

function listed(order: EpochOrder): number[] {
  return Array.from({ length: order.length }, (_, position) => order.at(position));
}

/** Every rank's epoch. */
function ranksOf(length: number, epoch: number, options: { seed: number; worldSize: number; shuffle?: boolean; dropLast?: boolean }) {
  const ranks = Array.from({ length: options.worldSize }, (_, rank) => new Sampler(length, { ...options, rank }));
  return Promise.all(ranks.map(async (sampler) => listed(await sampler.order(epoch))));
}

describe("the sampler follows DistributedSampler", () => {
  test("an epoch is a permutation that depends on the seed and the epoch", async () => {
    const sampler = new Sampler(100, { seed: 3 });
    const order = listed(await sampler.order(0));
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i));
    expect(listed(await new Sampler(100, { seed: 3 }).order(0))).toEqual(order);
    expect(listed(await sampler.order(1))).not.toEqual(order);
    expect(listed(await new Sampler(100, { seed: 4 }).order(0))).not.toEqual(order);
  });

  test("ranks interleave one permutation, padded with its beginning", async () => {
    const [whole] = await ranksOf(10, 2, { seed: 1, worldSize: 1 });
    const ranks = await ranksOf(10, 2, { seed: 1, worldSize: 3 });
    expect(ranks.map((order) => order.length)).toEqual([4, 4, 4]);
    const woven = Array.from({ length: 12 }, (_, i) => ranks[i % 3]![Math.floor(i / 3)]);
    expect(woven).toEqual([...whole!, whole![0], whole![1]]);
  });

  test("repeats keep the length, and ranks share a sample's copies", async () => {
    const options = { seed: 1, repeats: 3 };
    const [plain, repeated] = await Promise.all([new Sampler(10, { seed: 1 }).order(2), new Sampler(10, options).order(2)]);
    const [a, b, c, d] = listed(plain);
    expect(listed(repeated)).toEqual([a, a, a, b, b, b, c, c, c, d]);
    expect(Array.from({ length: 10 }, (_, position) => repeated.copyAt(position))).toEqual([0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
    const second = await new Sampler(10, { ...options, rank: 1, worldSize: 2 }).order(2);
    expect(listed(second)).toEqual([a, b, b, c, d]);
    expect([second.copyAt(1), second.copyAt(2)]).toEqual([0, 2]);
    expect(() => new Sampler(4, { seed: 0, repeats: 0 })).toThrow(/repeats is 0; give a whole number from 1/);
  });

  test("dropLast leaves the rest out", async () => {
    const ranks = await ranksOf(11, 0, { seed: 1, worldSize: 3, dropLast: true });
    expect(ranks.map((order) => order.length)).toEqual([3, 3, 3]);
    expect(new Set(ranks.flat()).size).toBe(9);
  });

  test("more ranks than samples repeat them all", async () => {
    expect(await ranksOf(2, 0, { seed: 0, worldSize: 5, shuffle: false })).toEqual([[0], [1], [0], [1], [0]]);
  });

  test("without shuffling the order is the source's", async () => {
    expect(listed(await new Sampler(4, { seed: 0, shuffle: false }).order(9))).toEqual([0, 1, 2, 3]);
  });

  test("the local batches of a step make up the same global batch for any number of ranks", async () => {
    const globalBatch = 12;
    const [whole] = await ranksOf(100, 5, { seed: 9, worldSize: 1 });
    const steps = Math.floor(100 / globalBatch);
    for (const worldSize of [2, 3, 4, 6, 12]) {
      const ranks = await ranksOf(100, 5, { seed: 9, worldSize });
      const local = globalBatch / worldSize;
      for (let step = 0; step < steps; step++) {
        const union = ranks.flatMap((order) => order.slice(step * local, (step + 1) * local));
        expect(union.sort((a, b) => a - b)).toEqual(whole!.slice(step * globalBatch, (step + 1) * globalBatch).sort((a, b) => a - b));
      }
    }
  });

  (testPython ? test : test.skip)("without shuffling it gives what PyTorch's gives", async () => {
    const cases = [[10, 3, false], [11, 3, true], [2, 5, false], [12, 4, false], [1, 4, false]] as const;
    const expected = runPython<number[][][]>(`
import json, sys
from torch.utils.data import DistributedSampler
cases = json.loads(sys.argv[1])
print(json.dumps([[list(DistributedSampler(range(n), num_replicas=w, rank=r, shuffle=False, drop_last=d)) for r in range(w)]
                  for n, w, d in cases]))`, [JSON.stringify(cases)]);
    for (const [i, [length, worldSize, dropLast]] of cases.entries()) {
      expect(await ranksOf(length, 0, { seed: 0, worldSize, shuffle: false, dropLast })).toEqual(expected[i]);
    }
  });

  test("refuses ranks outside the world", () => {
    expect(() => new Sampler(4, { seed: 0, rank: 2, worldSize: 2 })).toThrow(DataOptionError);
    expect(() => new Sampler(4, { seed: 0, worldSize: 0 })).toThrow(/worldSize is 0/);
  });

  test("positions outside the epoch are refused", async () => {
    const order = await new Sampler(5, { seed: 0, worldSize: 2, rank: 1 }).order(0);
    expect(order.length).toBe(3);
    for (const position of [-1, 3, 0.5, NaN]) expect(() => order.at(position)).toThrow(/there is no position .*; the epoch has 3/);
    expect((await new Sampler(0, { seed: 0 }).order(0)).length).toBe(0);
  });
});

describe("large data sets", () => {
  const length = 1_200_000;

  test("are permuted on another thread, in the same order as on this one", async () => {
    const ticks: number[] = [];
    let ended = false;
    const tick = (): void => {
      ticks.push(performance.now());
      if (!ended) setImmediate(tick);
    };
    tick();
    const order = await new Sampler(length, { seed: 2 ** 40 + 5, rank: 1, worldSize: 2 }).order(3);
    ended = true;
    expect(ticks.length).toBeGreaterThan(20); // this thread went on meanwhile
    const whole = new RandomStream({ seed: 2 ** 40 + 5, epoch: 3, index: 0, stream: 0 }).permutation(length);
    let differing = 0;
    for (let position = 0; position < order.length; position++) if (order.at(position) !== whole[1 + 2 * position]) differing++;
    expect(differing).toBe(0);
  });

  test("take no memory without shuffling", async () => {
    const before = process.memoryUsage();
    const order = await new Sampler(2 ** 32 - 1, { seed: 0, shuffle: false, rank: 7, worldSize: 8 }).order(0);
    const after = process.memoryUsage();
    expect(order.length).toBe(2 ** 29);
    expect(order.at(0)).toBe(7);
    expect(order.at(2 ** 29 - 1)).toBe(0); // the padding: place 2^32 - 1 is the first again
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(2 ** 20);
  });

  test("beyond 32 bits are refused", () => {
    expect(() => new Sampler(2 ** 32, { seed: 0 })).toThrow(DataOptionError);
    expect(() => new Sampler(2 ** 32, { seed: 0 })).toThrow(/has 4294967296 samples; the sampler takes 0 to 4294967295/);
    expect(() => new Sampler(-1, { seed: 0 })).toThrow(DataOptionError);
    expect(() => new Sampler(1.5, { seed: 0 })).toThrow(DataOptionError);
  });
});
