import { describe, expect, test } from "@jest/globals";
import { DataOptionError, Sampler } from "../../lib/data/index.js";

describe("the sampler follows DistributedSampler", () => {
  test("an epoch is a permutation that depends on the seed and the epoch", () => {
    const sampler = new Sampler(100, { seed: 3 });
    const order = [...sampler.order(0)];
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i));
    expect([...new Sampler(100, { seed: 3 }).order(0)]).toEqual(order);
    expect([...sampler.order(1)]).not.toEqual(order);
    expect([...new Sampler(100, { seed: 4 }).order(0)]).not.toEqual(order);
  });

  test("ranks interleave one permutation, padded with its beginning", () => {
    const whole = [...new Sampler(10, { seed: 1 }).order(2)];
    const ranks = [0, 1, 2].map((rank) => [...new Sampler(10, { seed: 1, rank, worldSize: 3 }).order(2)]);
    expect(ranks.map((order) => order.length)).toEqual([4, 4, 4]);
    const woven = Array.from({ length: 12 }, (_, i) => ranks[i % 3]![Math.floor(i / 3)]);
    expect(woven).toEqual([...whole, whole[0], whole[1]]);
  });

  test("dropLast leaves the rest out", () => {
    const ranks = [0, 1, 2].map((rank) => [...new Sampler(11, { seed: 1, rank, worldSize: 3, dropLast: true }).order(0)]);
    expect(ranks.map((order) => order.length)).toEqual([3, 3, 3]);
    expect(new Set(ranks.flat()).size).toBe(9);
  });

  test("more ranks than samples repeat them all", () => {
    const ranks = [0, 1, 2, 3, 4].map((rank) => [...new Sampler(2, { seed: 0, rank, worldSize: 5, shuffle: false }).order(0)]);
    expect(ranks).toEqual([[0], [1], [0], [1], [0]]);
  });

  test("without shuffling the order is the source's", () => {
    expect([...new Sampler(4, { seed: 0, shuffle: false }).order(9)]).toEqual([0, 1, 2, 3]);
  });

  test("refuses ranks outside the world", () => {
    expect(() => new Sampler(4, { seed: 0, rank: 2, worldSize: 2 })).toThrow(DataOptionError);
    expect(() => new Sampler(4, { seed: 0, worldSize: 0 })).toThrow(/worldSize is 0/);
  });
});
