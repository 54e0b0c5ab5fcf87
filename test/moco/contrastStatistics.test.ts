/** Statistics of a contrast against sums written out in float64, for one process and for two. */
import { describe, expect, test } from "@jest/globals";
import { contrastiveLoss, contrastStatistics, createMoCo, readContrastStatistics, type ContrastFigures } from "../../lib/moco/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { tinyOptions } from "../train/tinyRun.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

const temperature = 0.2;

/** Numbers that look random and are the same everywhere. */
function rows(count: number, dim: number, seed: number): number[][] {
  return Array.from({ length: count }, (_, i) => Array.from({ length: dim }, (_, j) => Math.sin(seed + 12.9898 * (i + 1) + 78.233 * (j + 1) * (i + 1))));
}

const unit = (row: readonly number[]): number[] => row.map((value) => value / Math.hypot(...row));
const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function deviation(table: readonly number[][]): number {
  return mean(table[0]!.map((_, j) => {
    const column = table.map((row) => row[j]!);
    const centre = mean(column);
    return Math.sqrt(column.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (column.length - 1));
  }));
}

/** By hand: the queries are compared with all keys, those from `first` on are their own. */
function byHand(queries: number[][], keys: number[][], first: number): ContrastFigures {
  const [q, k] = [queries.map(unit), keys.map(unit)];
  const cosines = q.map((query) => k.map((key) => dot(query, key)));
  const own = cosines.map((row, i) => row[first + i]!);
  const others = cosines.flatMap((row, i) => row.filter((_, j) => j !== first + i));
  const losses = cosines.map((row, i) => {
    return 2 * temperature * (Math.log(row.reduce((sum, cosine) => sum + Math.exp(cosine / temperature), 0)) - own[i]! / temperature);
  });
  const nearest = cosines.map((row, i) => (Math.max(...row) === own[i] ? 1 : 0));
  const ownKeys = k.slice(first, first + q.length);
  return {
    accuracy: mean(nearest), positive: mean(own), negative: mean(others), queryStd: deviation(q), keyStd: deviation(ownKeys), loss: mean(losses),
  };
}

function observed(queries: number[][], keys: number[][], others: number[][], rank: number): { loss: number; values: number[]; figures: ContrastFigures } {
  return torch.scope(() => {
    const tensor = (table: number[][]): Tensor => torch.tensor(table.flat(), [table.length, table[0]!.length], { dtype: "float64" });
    const gather = (own: Tensor): Tensor => {
      const theirs = tensor(others.map(unit));
      return torch.cat(rank === 0 ? [own, theirs] : [theirs, own]);
    };
    let values: number[] = [];
    const loss = contrastiveLoss(tensor(queries), tensor(keys), temperature, others.length === 0 ? undefined : { rank, gather }, (contrast) => {
      values = contrastStatistics(contrast).toArray() as number[];
    });
    return { loss: loss.item(), values, figures: readContrastStatistics(values, { keys: keys.length + others.length, temperature }) };
  });
}

function expectFigures(found: ContrastFigures, expected: ContrastFigures): void {
  for (const [name, value] of Object.entries(expected)) expect([name, found[name as keyof ContrastFigures]]).toEqual([name, expect.closeTo(value, 12)]);
}

const queries = rows(6, 5, 1);
// Some keys near their queries, some not: the accuracy is neither 0 nor 1.
const keys = rows(6, 5, 2).map((row, i) => row.map((value, j) => value + (i % 2 === 0 ? -3 : 3) * queries[i]![j]!));

test("of one process", () => {
  const { loss, figures } = observed(queries, keys, [], 0);
  const expected = byHand(queries, keys, 0);
  expect(expected.accuracy).toBeGreaterThan(0);
  expect(expected.accuracy).toBeLessThan(1);
  expectFigures(figures, expected);
  expect(loss).toBeCloseTo(expected.loss, 12);
});

test.each([0, 1])("of process %i of two, with the other's keys", (rank) => {
  const others = rows(6, 5, 3);
  const all = rank === 0 ? [...keys, ...others] : [...others, ...keys];
  expectFigures(observed(queries, keys, others, rank).figures, byHand(queries, all, 6 * rank));
});

test("the mean over two processes is that of the whole batch, but for the spreads", () => {
  const [moreQueries, moreKeys] = [rows(6, 5, 4), rows(6, 5, 5)];
  const first = observed(queries, keys, moreKeys, 0);
  const second = observed(moreQueries, moreKeys, keys, 1);
  const averaged = readContrastStatistics(first.values.map((value, i) => (value + second.values[i]!) / 2), { keys: 12, temperature });
  const { queryStd: _, keyStd: __, ...whole } = byHand([...queries, ...moreQueries], [...keys, ...moreKeys], 0);
  expectFigures({ ...averaged }, { ...averaged, ...whole });
});

describe("where all features are the same", () => {
  test("each term of the loss is 2τ·ln(N), and the spread 0", () => {
    const same = Array.from({ length: 8 }, () => [1, 2, 3]);
    const { loss, figures } = observed(same, same, [], 0);
    expect(loss).toBeCloseTo(2 * temperature * Math.log(8), 12);
    expect([figures.queryStd, figures.keyStd, figures.accuracy]).toEqual([0, 0, 1 / 8]);
    expect([figures.positive, figures.negative]).toEqual([expect.closeTo(1, 12), expect.closeTo(1, 12)]);
  });
});

test("a network shows its observer both contrasts of a step, and frees them", () => {
  const { encoder, dim, mlpDim } = tinyOptions;
  using moco = createMoCo({ encoder, dim, mlpDim, temperature });
  torch.scope(() => {
    const seen: number[] = [];
    let kept: Tensor | undefined;
    moco.observer = ({ loss, logits, queries: q }) => {
      kept = logits;
      seen.push(loss.item());
      expect([q.requiresGrad, logits.requiresGrad, loss.requiresGrad]).toEqual([false, false, false]);
    };
    const view = torch.randn([4, 3, 16, 16]);
    const total = moco.forward(view, torch.randn([4, 3, 16, 16]), 0.99);
    expect(seen).toHaveLength(2);
    expect(seen[0]! + seen[1]!).toBeCloseTo(total.item(), 5);
    expect(kept!.disposed).toBe(true);
    expect(total.requiresGrad).toBe(true);
  });
});
