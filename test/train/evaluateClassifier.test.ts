import { beforeAll, describe, expect, test } from "@jest/globals";
import { evaluationResize, ImageFolder, LabelledDataError, loadImages, TooManyBadImagesError, type ImageSource, type ImageStream } from "../../lib/data/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import { Module } from "../../lib/nn/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { evaluateClassifier, EvaluationError, scoreOf } from "../../lib/train/evaluateClassifier.js";
import { memorySource } from "../data/pixels.js";
import { writeDigits } from "../support/digits.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();
const folder = temporaryFolder("evaluate");
let digits: ImageFolder;
beforeAll(async () => {
  await writeDigits(folder, { count: 300 });
  digits = await ImageFolder.open(folder, { split: "val" });
});

/** Gives each image the outputs that a function of its number in the order of evaluation tells. */
class Fixed extends Module {
  done = 0;
  modes: boolean[] = [];

  constructor(private readonly outputs: (image: number) => number[]) {
    super();
  }

  forward(images: Tensor): Tensor {
    this.modes.push(this.training);
    return torch.tensor(Array.from({ length: images.size(0) }, () => this.outputs(this.done++)).flat(), [images.size(0), this.outputs(0).length]);
  }
}

/** A source in memory whose labels are the given ones. */
const labelled = (labels: readonly (number | null)[], bad: readonly number[] = []): ImageSource => {
  const images = memorySource(labels.length, bad);
  return { length: labels.length, classes: ["a", "b", "c"], image: (index) => images.image(index), label: (index) => labels[index]! };
};

describe("acc@1, acc@5 and loss", () => {
  test("on real digits are those of the outputs, counted by hand, whatever the batches", async () => {
    torch.manualSeed(0);
    using model = new VisionTransformer({ imageSize: 32, patchSize: 8, embedDim: 24, depth: 1, numHeads: 3, numClasses: 10 });
    const found = (await evaluateClassifier(model, digits, { numClasses: 10, imageSize: 32, batchSize: 16 }))!;
    const all = Array.from({ length: digits.length }, (_, i) => i);
    using images = await loadImages(digits, all, { imageSize: 32, resizeShorter: 37 });
    const outputs = torch.scope(() => torch.noGrad(() => model.forward(images).toArray())) as number[][];
    let [first, fifth, loss] = [0, 0, 0];
    outputs.forEach((row, i) => {
      const own = row[digits.label(i) as number]!;
      const above = row.filter((value) => value > own).length;
      if (above === 0) first++;
      if (above < 5) fifth++;
      loss += Math.log(row.reduce((sum, value) => sum + Math.exp(value), 0)) - own;
    });
    const count = digits.length;
    expect(found).toMatchObject({ images: count, bad: [], acc1: (100 * first) / count, acc5: (100 * fifth) / count });
    expect(found.loss).toBeCloseTo(loss / count, 5);
    expect(found.acc5).toBeGreaterThan(found.acc1);
    expect(await evaluateClassifier(model, digits, { numClasses: 10, imageSize: 32, batchSize: 60 })).toMatchObject({ acc1: found.acc1 });
  });

  test("of three classes, the five likeliest are all", async () => {
    using model = new Fixed((image) => [image + 0.5, 1, 2]);
    const found = await evaluateClassifier(model, labelled([2, 2, 0, 0, 1, 0]), { numClasses: 3, imageSize: 8, batchSize: 4 });
    expect(found).toMatchObject({ acc1: (100 * 5) / 6, acc5: 100, images: 6 });
  });

  test("of outputs in bfloat16 are summed in float32", () => {
    torch.scope(() => {
      const logits = torch.tensor([1, 2, 3, 3, 2, 1], [2, 3]);
      const target = torch.tensor([2, 2], undefined, { dtype: "int64" });
      const expected = 2 * Math.log(Math.exp(1) + Math.exp(2) + Math.exp(3)) - 3 - 1;
      const { correct1, correct5, loss } = scoreOf(logits.to("bfloat16"), target);
      expect([correct1, correct5]).toEqual([1, 2]);
      expect(loss).toBeCloseTo(expected, 5);
    });
  });

  test("of a stream, each image once", async () => {
    const images = memorySource(7);
    const stream: ImageStream = {
      length: 7, classes: ["a", "b"],
      async *stream() {
        for (let i = 0; i < 7; i++) yield { id: i, name: `image ${i}`, label: i % 2, image: images.image(i) };
      },
    };
    using model = new Fixed((image) => (image < 3 ? [1, 0] : [0, 1]));
    expect(await evaluateClassifier(model, stream, { numClasses: 2, imageSize: 8, batchSize: 3 })).toMatchObject({ images: 7, acc1: (100 * 4) / 7 });
  });
});

test("the shorter side is 256 for 224, and in that ratio for others", () => {
  expect([evaluationResize(224), evaluationResize(32), evaluationResize([224, 384])]).toEqual([256, 37, 439]);
});

test("the model is evaluated in evaluation mode, and is in training mode again after it, or as it was", async () => {
  using model = new Fixed(() => [0, 1, 2]);
  await evaluateClassifier(model, labelled([0, 1, 2]), { numClasses: 3, imageSize: 8 });
  expect([model.modes, model.training]).toEqual([[false], true]);
  model.eval();
  await evaluateClassifier(model, labelled([0, 1, 2]), { numClasses: 3, imageSize: 8 });
  expect(model.training).toBe(false);
});

test("an aborted signal ends it without a result", async () => {
  using model = new Fixed(() => [0, 1, 2]);
  const stop = new AbortController();
  const done: number[] = [];
  const found = await evaluateClassifier(model, labelled(Array.from({ length: 12 }, () => 1)), {
    numClasses: 3, imageSize: 8, batchSize: 2, signal: stop.signal, onBatch: (images) => done.push(images) === 2 && stop.abort("SIGINT"),
  });
  expect([found, done]).toEqual([null, [2, 4]]);
});

describe("what cannot be evaluated is named", () => {
  const evaluate = async (source: ImageSource, options = {}, outputs = (_: number): number[] => [0, 1, 2]): Promise<unknown> => {
    using model = new Fixed(outputs);
    return evaluateClassifier(model, source, { numClasses: 3, imageSize: 8, batchSize: 2, ...options });
  };

  test("unreadable images are left out, up to the limit", async () => {
    const found = await evaluate(labelled([2, 2, 0, 2, 1], [1]), { maxBad: 0.3 });
    expect(found).toMatchObject({ images: 4, acc1: 50, bad: [{ index: 1, name: "image 1", reason: expect.stringMatching(/broken on purpose/) }] });
    await expect(evaluate(labelled([2, 2, 0, 2, 1], [1]))).rejects.toThrow(TooManyBadImagesError);
    await expect(evaluate(labelled([2, 2], [0, 1]), { maxBad: 1 })).rejects.toThrow(EvaluationError);
  });

  test("an image without a label, or with one that is no class", async () => {
    await expect(evaluate(labelled([0, null]))).rejects.toThrow(/^image 1 has no label; put it into the folder of its class/);
    await expect(evaluate(labelled([0, 1, 3]))).rejects.toThrow(/^image 2 has the label 3, and there are 3 classes/);
    await expect(evaluate(labelled([0, null]))).rejects.toThrow(LabelledDataError);
  });

  test("outputs that are not finite", async () => {
    const diverged = evaluate(labelled([0, 1, 2]), {}, (image) => (image === 2 ? [0, NaN, 1] : [0, 1, 2]));
    await expect(diverged).rejects.toThrow(/^the classifier's outputs for image 2 are not finite numbers/);
  });
});
