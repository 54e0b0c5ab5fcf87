/** Mixup and CutMix: pixels and targets against timm's for the same draws, and the draws themselves. */
import { describe, expect, test } from "@jest/globals";
import { checkMixing, cutMixing, DataOptionError, drawMixing, mixes, mixImages, type Mixing, type MixingRecipe } from "../../lib/data/index.js";
import * as torch from "../../lib/torch/index.js";
import { softTargetCrossEntropy, softTargets } from "../../lib/train/finetuning/softTargets.js";
import { maxAbsolute, numbers } from "../support/digest.js";
import { readJson, readNpz } from "../support/fixtures.js";
import { runPython, testPython } from "../support/python.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

interface Draw { share: number; cut: boolean; row: number; column: number }
interface Parts { labels: number[]; mixing: Draw[]; losses: { soft: number; smoothed: number } }
const arrays = readNpz<Float32Array>("finetune/parts.npz");
const { parts, classes } = readJson<{ parts: Parts; classes: number }>("finetune/manifest.json");
const size = [6, 8] as const;
const deit: MixingRecipe = { mixupAlpha: 0.8, cutmixAlpha: 1, probability: 1, switchProbability: 0.5 };

function mixingOf({ share, cut, row, column }: Draw): Mixing {
  return cut ? cutMixing(share, row, column, size) : { lambda: share, box: null };
}

describe("mixed images and targets are timm's", () => {
  test.each(parts.mixing.map((draw, i) => [JSON.stringify(draw), draw, i] as const))("%s", (_, draw, i) => {
    torch.scope(() => {
      const { data, shape } = arrays.get("images")!;
      const images = torch.tensor(data, shape);
      const mixing = mixingOf(draw);
      const mixed = mixImages(images, mixing);
      expect(maxAbsolute(numbers(mixed), arrays.get(`mixed_${i}`)!.data)).toBe(0);
      expect(numbers(images)).toEqual(Float64Array.from(data)); // as it was
      const labels = torch.tensor(parts.labels, undefined, { dtype: "int64" });
      const targets = softTargets(labels, { numClasses: classes, smoothing: 0.1, lambda: mixing.lambda });
      expect(maxAbsolute(numbers(targets), arrays.get(`mixed_${i}_targets`)!.data)).toBeLessThan(1e-7);
    });
  });

  test("the image in the middle of an odd batch stays", () => {
    torch.scope(() => {
      const images = torch.randn([3, 3, 6, 8]);
      for (const mixing of [{ lambda: 0.25, box: null }, cutMixing(0.5, 3, 4, size)]) {
        const mixed = mixImages(images, mixing);
        expect(maxAbsolute(numbers(mixed.select(0, 1)), numbers(images.select(0, 1)))).toBeLessThan(1e-6);
        expect(torch.equal(mixed.select(0, 0), images.select(0, 0))).toBe(false);
      }
    });
  });
});

test("the losses are timm's", () => {
  torch.scope(() => {
    const { data, shape } = arrays.get("logits")!;
    const logits = torch.tensor(data, shape);
    const labels = torch.tensor(parts.labels, undefined, { dtype: "int64" });
    const soft = softTargets(labels, { numClasses: classes, smoothing: 0.1, lambda: mixingOf(parts.mixing[1]!).lambda });
    expect(softTargetCrossEntropy(logits, soft).item()).toBeCloseTo(parts.losses.soft, 6);
    const smoothed = softTargets(labels, { numClasses: classes, smoothing: 0.1 });
    expect(softTargetCrossEntropy(logits, smoothed).item()).toBeCloseTo(parts.losses.smoothed, 6);
    expect(softTargetCrossEntropy(logits.to("bfloat16"), smoothed).dtype).toBe("float32");
  });
});

describe("draws", () => {
  const draws = (recipe: MixingRecipe, count = 4000): (Mixing | null)[] =>
    Array.from({ length: count }, (_, step) => drawMixing(recipe, { seed: 1, epoch: 3, step }, [32, 48]));

  test("depend on seed, epoch and step alone", () => {
    const key = { seed: 5, epoch: 2, step: 7 };
    expect(drawMixing(deit, key, [32, 48])).toEqual(drawMixing(deit, { ...key }, [32, 48]));
    const others = [{ ...key, seed: 6 }, { ...key, epoch: 3 }, { ...key, step: 8 }].map((each) => drawMixing(deit, each, [32, 48]));
    for (const other of others) expect(other).not.toEqual(drawMixing(deit, key, [32, 48]));
  });

  test("switch between both as often as asked for", () => {
    const found = draws(deit);
    expect(found).not.toContain(null);
    expect(found.filter((each) => each!.box !== null).length / found.length).toBeCloseTo(0.5, 1);
    expect(draws({ ...deit, cutmixAlpha: 0 }, 100).every((each) => each!.box === null)).toBe(true);
    expect(draws({ ...deit, mixupAlpha: 0 }, 100).every((each) => each!.box !== null)).toBe(true);
    expect(draws({ ...deit, probability: 0.25 }).filter((each) => each !== null).length / 4000).toBeCloseTo(0.25, 1);
    for (const off of [{ ...deit, probability: 0 }, { ...deit, mixupAlpha: 0, cutmixAlpha: 0 }]) {
      expect([mixes(off), draws(off, 3)]).toEqual([false, [null, null, null]]);
    }
  });

  test.each([0.1, 0.8, 1, 5])("the share follows a beta distribution: alpha %d", (alpha) => {
    const shares = draws({ ...deit, mixupAlpha: alpha, cutmixAlpha: 0 }).map((each) => each!.lambda);
    const mean = shares.reduce((sum, each) => sum + each, 0) / shares.length;
    const variance = shares.reduce((sum, each) => sum + (each - mean) ** 2, 0) / shares.length;
    expect(mean).toBeCloseTo(0.5, 1);
    expect(variance * (4 * (2 * alpha + 1))).toBeCloseTo(1, 1); // Beta(α, α) has the variance 1 / (4 (2α + 1))
    expect(Math.min(...shares)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...shares)).toBeLessThanOrEqual(1);
  });

  test("boxes lie within the image, and lambda is the area that they leave", () => {
    for (const mixing of draws({ ...deit, mixupAlpha: 0 }, 500)) {
      const { lambda, box } = mixing!;
      const { top, left, height, width } = box!;
      expect(top >= 0 && left >= 0 && top + height <= 32 && left + width <= 48).toBe(true);
      expect(lambda).toBeCloseTo(1 - (height * width) / (32 * 48), 12);
    }
  });

  test("a recipe that makes no sense is refused", () => {
    expect(() => checkMixing(deit)).not.toThrow();
    expect(() => checkMixing({ ...deit, mixupAlpha: -1 })).toThrow(DataOptionError);
    expect(() => checkMixing({ ...deit, switchProbability: 1.5 })).toThrow(/switchProbability is 1.5; give a probability from 0 to 1/);
  });
});

(testPython === null ? test.skip : test)("timm's Mixup gives the same for shares and boxes that it draws itself", () => {
  const found = runPython<{ lam: number; box: number[] | null; row: number; column: number; share: number; images: number[]; mixed: number[] }[]>(`
import json, numpy as np, torch
from unittest import mock
from timm.data.mixup import Mixup
np.random.seed(0)
out = []
for i in range(30):
    log = {}
    def spy(name):
        real = getattr(np.random, name)
        def call(*args, **kwargs):
            value = real(*args, **kwargs)
            log.setdefault(name, []).append(value)
            return value
        return mock.patch("numpy.random." + name, call)
    mixup = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=5)
    images = torch.randn(4, 1, 6, 8)
    mixed = images.clone()
    with spy("beta"), spy("randint"):
        lam = mixup._mix_batch(mixed)
    row, column = [int(v) for v in log.get("randint", [0, 0])]
    out.append({"lam": float(lam), "box": [row, column] if "randint" in log else None, "row": row, "column": column, "share": float(log["beta"][0]),
                "images": images.flatten().tolist(), "mixed": mixed.flatten().tolist()})
print(json.dumps(out))
`);
  for (const { lam, box, row, column, share, images, mixed } of found) {
    const mixing = mixingOf({ share, cut: box !== null, row, column });
    expect(mixing.lambda).toBeCloseTo(lam, 12);
    torch.scope(() => {
      const result = mixImages(torch.tensor(Float32Array.from(images), [4, 1, 6, 8]), mixing);
      expect(maxAbsolute(numbers(result), Float32Array.from(mixed))).toBeLessThan(1e-7);
    });
  }
});
