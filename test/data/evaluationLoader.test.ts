import { describe, expect, test } from "@jest/globals";
import { BadImageError, DataOptionError, evaluationBatches, loadImages, type ImageSource, type ImageStream } from "../../lib/data/index.js";
import { fixturePath, readJson } from "../support/fixtures.js";
import { golden, memorySource, synthetic } from "./pixels.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

const { val } = readJson<{ val: { file: string; source: string; resize: number; crop: number }[] }>("augment/manifest.json");
const photographs: ImageSource = {
  length: val.length,
  classes: ["photograph"],
  name: (index) => val[index]!.source,
  label: () => 0,
  image: (index) => fixturePath(`augment/files/${val[index]!.source}`),
};
const mean = [0.485, 0.456, 0.406];
const std = [0.229, 0.224, 0.225];

describe("evaluation images", () => {
  test("are torchvision's Resize(256) and CenterCrop(224), bit for bit", async () => {
    const images = await loadImages(photographs, [2, 0, 1], { imageSize: 224, resizeShorter: 256 });
    expect(images.shape).toEqual([3, 3, 224, 224]);
    const values = images.data() as Float32Array;
    images.dispose();
    [2, 0, 1].forEach((index, row) => {
      const pixels = golden(val[index]!.file).data;
      let wrong = 0;
      for (let i = 0; i < pixels.length; i++) {
        const c = i % 3;
        const f = Math.fround;
        const expected = f(f(f(pixels[i]! / 255) - f(mean[c]!)) / f(std[c]!));
        if (values[row * pixels.length + c * 224 * 224 + Math.floor(i / 3)] !== expected) wrong++;
      }
      expect(wrong).toBe(0);
    });
  });

  test("come in order, the last batch short, unreadable ones reported", async () => {
    const source = memorySource(11, [2, 9]);
    const batches: { rows: number; indices: number[]; bad: number[] }[] = [];
    for await (const { images, indices, labels, bad } of evaluationBatches(source, { batchSize: 4, imageSize: [16, 20] })) {
      expect(images.shape).toEqual([indices.length, 3, 16, 20]);
      expect(labels).toEqual(indices.map(() => null));
      batches.push({ rows: images.shape[0]!, indices, bad: bad.map((image) => image.index) });
      images.dispose();
    }
    expect(batches).toEqual([
      { rows: 3, indices: [0, 1, 3], bad: [2] },
      { rows: 4, indices: [4, 5, 6, 7], bad: [] },
      { rows: 2, indices: [8, 10], bad: [9] },
    ]);
  });

  test("of a stream come in its order, each once, with ids, names and labels", async () => {
    let ended = 0;
    const stream: ImageStream = {
      length: 7, classes: ["even", "odd"],
      async *stream(request) {
        expect(request).toEqual({ seed: 0, epoch: 0, rank: 0, worldSize: 1 });
        try {
          for (const id of [6, 0, 3, 1, 5, 2, 4]) {
            const image = id === 3 ? Promise.reject(new Error("broken on purpose")) : synthetic(id);
            yield { id, name: `shard.tar/${id}`, label: id % 2, image };
          }
        } finally {
          ended++;
        }
      },
    };
    const found: unknown[] = [];
    for await (const { images, indices, names, labels, bad } of evaluationBatches(stream, { batchSize: 3, imageSize: 16 })) {
      found.push([images.shape[0], indices, names, labels, bad.map(({ name }) => name)]);
      images.dispose();
    }
    expect(found).toEqual([
      [2, [6, 0], ["shard.tar/6", "shard.tar/0"], [0, 0], ["shard.tar/3"]],
      [3, [1, 5, 2], ["shard.tar/1", "shard.tar/5", "shard.tar/2"], [1, 1, 0], []],
      [1, [4], ["shard.tar/4"], [0], []],
    ]);
    for await (const { images } of evaluationBatches(stream, { batchSize: 2, imageSize: 16 })) {
      images.dispose();
      break;
    }
    expect(ended).toBe(2);
  });

  test("stop cleanly when the consumer does", async () => {
    for await (const { images } of evaluationBatches(memorySource(40), { batchSize: 2, imageSize: 16 })) {
      images.dispose();
      break;
    }
  });

  test("a square of the image's own size is the image", async () => {
    const image = synthetic(0, 16, 16);
    const source: ImageSource = { ...memorySource(1), image: async () => image };
    const out = await loadImages(source, [0], { imageSize: 16, normalization: { mean: [0, 0, 0], std: [1, 1, 1] } });
    const values = out.data() as Float32Array;
    out.dispose();
    expect(values[16 * 16 * 2 + 37]).toBe(Math.fround(image.data[3 * 37 + 2]! / 255));
  });

  test("fail with the image's name", async () => {
    const attempt = loadImages(memorySource(3, [1]), [0, 1, 2], { imageSize: 16 });
    await expect(attempt).rejects.toThrow(BadImageError);
    await expect(attempt).rejects.toThrow("image 1: broken on purpose");
    const none = await loadImages(memorySource(3), [], { imageSize: 16 });
    expect(none.shape).toEqual([0, 3, 16, 16]);
    none.dispose();
    await expect(loadImages(memorySource(1), [0], { imageSize: 224, resizeShorter: 200 })).rejects.toThrow(DataOptionError);
  });
});
