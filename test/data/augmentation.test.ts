import { describe, expect, test } from "@jest/globals";
import { DataOptionError, drawView, fitView, viewRecipes, type Box, type ViewDraw, type ViewRecipe } from "../../lib/data/index.js";
import { readJson } from "../support/fixtures.js";

interface CropStatistics {
  image_wh: [number, number];
  scale: [number, number];
  ratio: [number, number];
  draws: number;
  quantile_levels: number[];
  stats: Record<string, { mean: number; std: number; quantiles: number[] }>;
}

/** The crop that a recipe of this scale and ratio draws for one sample. */
function crop(size: [number, number], cropScale: [number, number], cropRatio: [number, number], index = 0): Box {
  const [recipe] = viewRecipes(0.08, { cropScale, cropRatio });
  return fitView(drawView(recipe, { seed: 1, epoch: 0, index, view: 0 }), ...size).crop;
}

/** How many of ascending numbers are below a limit. */
function countBelow(sorted: number[], limit: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

describe("random resized crops are distributed as torchvision's", () => {
  test.each(readJson<CropStatistics[]>("augment/rrc_stats.json"))("$image_wh $scale", (golden) => {
    const { image_wh, scale, ratio, draws, quantile_levels, stats } = golden;
    const [width, height] = image_wh;
    const values: Record<string, number[]> = {};
    const note = (name: string, value: number): void => {
      if (Number.isFinite(value)) (values[name] ??= []).push(value);
    };
    for (let index = 0; index < draws; index++) {
      const box = crop([width, height], scale, ratio, index);
      note("i", box.top);
      note("j", box.left);
      note("h", box.height);
      note("w", box.width);
      note("area_fraction", (box.height * box.width) / (width * height));
      note("log_aspect", Math.log(box.width / box.height));
      if (width === 640) {
        note("i_relative", box.top / (height - box.height));
        note("j_relative", box.left / (width - box.width));
      }
    }
    for (const [name, sorted] of Object.entries(values)) {
      sorted.sort((a, b) => a - b);
      const { mean, std, quantiles } = stats[name]!;
      const ours = sorted.reduce((a, b) => a + b, 0) / sorted.length;
      expect({ name, near: Math.abs(ours - mean) <= 6 * std * Math.sqrt(2 / draws) }).toEqual({ name, near: true });
      quantiles.forEach((value, i) => {
        const level = quantile_levels[i]!;
        // The golden quantile must sit where ours do: ties make a range of it.
        const slack = 1e-9 * Math.max(1, Math.abs(value));
        const below = countBelow(sorted, value - slack) / sorted.length;
        const upTo = countBelow(sorted, value + slack) / sorted.length;
        expect({ name, level, near: below <= level + 0.0195 && upTo >= level - 0.0195 }).toEqual({ name, level, near: true });
      });
    }
  });

  test("a shape that no try can meet gets the centred fallback", () => {
    expect(crop([1000, 10], [1, 1], [3 / 4, 4 / 3])).toEqual({ top: 0, left: 493, height: 10, width: 13 });
    expect(crop([10, 1000], [1, 1], [3 / 4, 4 / 3])).toEqual({ top: 493, left: 0, height: 13, width: 10 });
    expect(crop([1, 1], [0.08, 1], [3 / 4, 4 / 3])).toEqual({ top: 0, left: 0, height: 1, width: 1 });
  });
});

describe("views", () => {
  const n = 20000;
  const draws = viewRecipes().map((recipe, view) =>
    Array.from({ length: n }, (_, index) => drawView(recipe, { seed: 5, epoch: 1, index, view })),
  ) as [ViewDraw[], ViewDraw[]];
  const share = (views: ViewDraw[], holds: (view: ViewDraw) => boolean): number => views.filter(holds).length / n;
  const near = (actual: number, expected: number): void =>
    expect(Math.abs(actual - expected)).toBeLessThanOrEqual(6 * Math.sqrt((expected * (1 - expected)) / n));
  const uniform = (values: number[], low: number, high: number): void => {
    expect(Math.min(...values)).toBeGreaterThanOrEqual(low);
    expect(Math.max(...values)).toBeLessThanOrEqual(high);
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    expect(Math.abs(mean - (low + high) / 2)).toBeLessThan((6 * (high - low)) / Math.sqrt(12 * values.length));
    const middle = values.filter((value) => value > low + (high - low) / 4 && value < high - (high - low) / 4).length / values.length;
    expect(Math.abs(middle - 0.5)).toBeLessThan(3 / Math.sqrt(values.length));
  };

  test("have upstream's probabilities", () => {
    for (const views of draws) {
      near(share(views, (view) => view.jitter !== null), 0.8);
      near(share(views, (view) => view.grayscale), 0.2);
      near(share(views, (view) => view.flip), 0.5);
    }
    expect(share(draws[0], (view) => view.blurSigma !== null)).toBe(1);
    near(share(draws[1], (view) => view.blurSigma !== null), 0.1);
    expect(share(draws[0], (view) => view.solarize !== null)).toBe(0);
    near(share(draws[1], (view) => view.solarize === 128), 0.2);
  });

  test("have upstream's strengths", () => {
    uniform(draws[0].map((view) => view.blurSigma!), 0.1, 2);
    const jitters = draws.flat().flatMap((view) => view.jitter ?? []);
    uniform(jitters.map((jitter) => jitter.brightness), 0.6, 1.4);
    uniform(jitters.map((jitter) => jitter.contrast), 0.6, 1.4);
    uniform(jitters.map((jitter) => jitter.saturation), 0.8, 1.2);
    uniform(jitters.map((jitter) => jitter.hue), -0.1, 0.1);
    const orders = new Map<string, number>();
    for (const { order } of jitters) orders.set(order.join(""), (orders.get(order.join("")) ?? 0) + 1);
    expect(orders.size).toBe(24);
    const expected = jitters.length / 24;
    for (const count of orders.values()) expect(Math.abs(count - expected)).toBeLessThan(6 * Math.sqrt(expected));
  });

  test("of one image are drawn independently", () => {
    near(draws[0].filter((view, i) => view.flip && draws[1][i]!.flip).length / n, 0.25);
    expect(draws[0][0]!.crop).not.toEqual(draws[1][0]!.crop);
  });

  test("keep their other draws when one probability changes", () => {
    const [usual] = viewRecipes();
    const [changed] = viewRecipes(0.08, { blurProbability: 0, jitterProbability: 1, hue: 0 });
    for (let index = 0; index < 50; index++) {
      const key = { seed: 9, epoch: 0, index, view: 0 };
      const a = drawView(usual, key);
      const b = drawView(changed, key);
      expect({ ...b, blurSigma: a.blurSigma, jitter: a.jitter }).toEqual(a);
      expect(b.blurSigma).toBeNull();
      expect(b.jitter!.order).toHaveLength(3);
      expect(b.jitter!.order).not.toContain(3);
    }
  });

  test("that fit an image are torchvision's tries in their order, whatever the image", () => {
    // The rule, once more and plainly: each try takes two numbers for its shape and, if it fits, two for its place.
    const recipe: ViewRecipe = viewRecipes()[0];
    for (let index = 0; index < 3000; index++) {
      const draw = drawView(recipe, { seed: 3, epoch: 2, index, view: index % 2 });
      const width = 1 + ((index * 37) % 700), height = 1 + ((index * 53) % 500);
      let expected: Box | null = null;
      for (let k = 0; k < 10 && !expected; k++) {
        const area = width * height * draw.crop[2 + k]!, ratio = draw.crop[12 + k]!;
        const w = Math.round(Math.sqrt(area * ratio)), h = Math.round(Math.sqrt(area / ratio));
        if (w < 1 || h < 1 || w > width || h > height) continue;
        const [down, right] = [draw.crop[22 + 2 * k]!, draw.crop[23 + 2 * k]!];
        expected = { top: Math.floor(down * (height - h + 1)), left: Math.floor(right * (width - w + 1)), height: h, width: w };
      }
      if (expected) expect(fitView(draw, width, height).crop).toEqual(expected);
    }
  });

  test("may have recipes of their own", () => {
    const [first, second] = viewRecipes(0.3, [{ blurProbability: 0.5 }, { solarizeProbability: 0 }]);
    expect([first.blurProbability, second.blurProbability, second.solarizeProbability, first.cropScale[0]]).toEqual([0.5, 0.1, 0, 0.3]);
  });

  test("refuse recipes without sense", () => {
    expect(() => viewRecipes(0)).toThrow(DataOptionError);
    expect(() => viewRecipes(1.5)).toThrow(/cropScale/);
    expect(() => viewRecipes(0.08, { flipProbability: 2 })).toThrow(/flipProbability is 2/);
    expect(() => viewRecipes(0.08, { hue: 0.6 })).toThrow(/hue/);
    expect(() => viewRecipes(0.08, { blurSigma: [2, 1] })).toThrow(/blurSigma/);
  });
});
