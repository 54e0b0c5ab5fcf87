import { expect, test } from "@jest/globals";
import { interleave } from "../../scripts/bench/interleave.js";
import { converted, geometricMean, median, pairedRatio, spreadOf } from "../../scripts/bench/spread.js";

test("sides are measured in turn, every other round backwards, and the warm-up does not count", async () => {
  const asked: string[] = [];
  let clock = 0;
  const measured = await interleave(["a", "b", "c"], { rounds: 3 }, async (side, round) => {
    asked.push(`${side}${round}`);
    await Promise.resolve();
    return ++clock;
  });
  expect(asked).toEqual(["a0", "b0", "c0", "c1", "b1", "a1", "a2", "b2", "c2", "c3", "b3", "a3"]);
  expect(measured).toEqual({ a: [6, 7, 12], b: [5, 8, 11], c: [4, 9, 10] });
});

test("one measurement ends before the next begins", async () => {
  let running = 0;
  await interleave(["a", "b"], { rounds: 2, warmUp: 0 }, async () => {
    expect(++running).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 1));
    running--;
  });
  expect(running).toBe(0);
});

test("a measurement that fails ends the benchmark, and says why", async () => {
  const measuring = interleave(["a", "b"], { rounds: 2 }, (side, round) => {
    if (side === "b" && round === 1) throw new Error("out of memory");
    return 1;
  });
  await expect(measuring).rejects.toThrow("out of memory");
});

test("a slow round changes neither the ratio nor much of the median", () => {
  expect(pairedRatio([1, 10, 1], [2, 20, 2])).toBe(0.5);
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(geometricMean([0.5, 2])).toBeCloseTo(1, 12);
});

test("a spread keeps its order where a conversion turns it round", () => {
  expect(spreadOf([3, 1, 2])).toEqual({ median: 2, low: 1, high: 3 });
  expect(converted({ median: 2, low: 1, high: 4 }, (seconds) => 8 / seconds)).toEqual({ median: 4, low: 2, high: 8 });
});
