import { createHash } from "node:crypto";
import { describe, expect, test } from "@jest/globals";
import { RandomStream, philox } from "../../lib/data/index.js";

test("philox gives the published vectors", () => {
  // Random123's known answers for philox4x32-10.
  const vectors = [
    { counter: [0, 0, 0, 0], key: [0, 0], result: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8] },
    { counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff], key: [0xffffffff, 0xffffffff],
      result: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd] },
    { counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], key: [0xa4093822, 0x299f31d0],
      result: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1] },
  ];
  for (const { counter, key, result } of vectors) {
    const words = Uint32Array.from(counter);
    philox(words, key[0]!, key[1]!);
    expect([...words]).toEqual(result);
  }
});

describe("streams", () => {
  const key = { seed: 7, epoch: 3, index: 11, stream: 2 };
  const numbers = (changed: Partial<typeof key> = {}): number[] => {
    const stream = new RandomStream({ ...key, ...changed });
    return Array.from({ length: 9 }, () => stream.uint32());
  };

  test("repeat for the same key and differ for every other", () => {
    expect(numbers()).toEqual(numbers());
    const others = [{ seed: 8 }, { seed: 7 + 2 ** 32 }, { epoch: 4 }, { index: 12 }, { stream: 3 }].map((change) => numbers(change).join());
    expect(new Set([numbers().join(), ...others]).size).toBe(6);
  });

  test("are uniform", () => {
    const stream = new RandomStream(key);
    const n = 40000;
    const counts = new Array<number>(20).fill(0);
    let sum = 0;
    for (let i = 0; i < n; i++) {
      const value = stream.uniform();
      if (!(value >= 0 && value < 1)) throw new Error(`${value} is outside [0, 1)`);
      sum += value;
      counts[Math.floor(value * 20)]!++;
    }
    expect(Math.abs(sum / n - 0.5)).toBeLessThan(6 * Math.sqrt(1 / 12 / n));
    const chiSquare = counts.reduce((total, count) => total + (count - n / 20) ** 2 / (n / 20), 0);
    expect(chiSquare).toBeLessThan(50); // 19 degrees of freedom: 0.9999 quantile
  });

  test("permute fairly", () => {
    const counts = new Map<string, number>();
    for (let index = 0; index < 24000; index++) {
      const order = [...new RandomStream({ ...key, index }).permutation(4)].join("");
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(6 * Math.sqrt(1000));
    const large = new RandomStream(key).permutation(10000);
    expect(new Set(large).size).toBe(10000);
    expect(new RandomStream(key).permutation(0).length).toBe(0);
  });

  test("permute as runs before did", () => {
    // Recorded from the exchange of one element after another; 2048 are exchanged at a time now.
    expect([...new RandomStream(key).permutation(12)]).toEqual([6, 0, 9, 1, 8, 7, 4, 5, 11, 10, 3, 2]);
    const recorded = { 2047: "e08b1dfccaf8bd1a", 2048: "184789d48bf39829", 2049: "e475281de2f4195d", 100000: "0ab9621feb1eb94a" };
    for (const [length, digest] of Object.entries(recorded)) {
      const order = new RandomStream(key).permutation(Number(length));
      expect(createHash("sha256").update(new Uint8Array(order.buffer)).digest("hex").slice(0, 16)).toBe(digest);
    }
    const stream = new RandomStream(key);
    stream.uint32();
    expect([...stream.permutation(6), stream.uint32()]).toEqual([4, 5, 1, 3, 0, 2, 2356493181]);
  });

  test("refuse seeds that are no whole numbers", () => {
    expect(() => new RandomStream({ ...key, seed: -1 })).toThrow(RangeError);
    expect(() => new RandomStream({ ...key, seed: 0.5 })).toThrow(RangeError);
  });
});
