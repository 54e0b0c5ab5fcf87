import { createHash } from "node:crypto";
import { describe, expect, test } from "@jest/globals";
import {
  RandomStream, TooManyBadImagesError, TwoViewLoader, type ImageStream, type StreamedImage, type StreamRequest, type TwoViewOptions,
} from "../../lib/data/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { synthetic } from "./pixels.js";

expectNoTensorsLeft();

/** A stream in an order of its own for each epoch; the ids in `bad` cannot be read. */
class TestStream implements ImageStream {
  given = 0;
  ended = 0;

  constructor(readonly length: number, private readonly bad: readonly number[] = []) {}

  async *stream({ seed, epoch, rank, worldSize }: StreamRequest): AsyncGenerator<StreamedImage> {
    const order = new RandomStream({ seed, epoch, index: 0, stream: 99 }).permutation(this.length);
    try {
      for (let place = rank; place < order.length; place += worldSize) {
        const id = order[place]!;
        this.given++;
        if (place % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
        const image = this.bad.includes(id) ? Promise.reject(new Error("broken on purpose")) : synthetic(id);
        yield { id, name: `shard.tar/${id}`, label: null, image };
      }
    } finally {
      this.ended++;
    }
  }
}

type Steps = { step: number; indices: number[]; hashes: string[] }[];

async function run(source: ImageStream, changes: Partial<TwoViewOptions> = {}, epoch = 0, startStep = 0): Promise<Steps> {
  await using loader = new TwoViewLoader(source, { batchSize: 4, imageSize: 16, seed: 3, threads: 2, maxBad: 0.2, ...changes });
  const steps: Steps = [];
  for await (using batch of loader.epoch(epoch, startStep)) {
    const { step, indices, views } = batch;
    steps.push({ step, indices: [...indices], hashes: views.map((view) => createHash("sha256").update(view.bytes()).digest("hex")) });
  }
  return steps;
}

describe("a stream", () => {
  test("gives its images in its own order, each once, and other orders in other epochs", async () => {
    const first = await run(new TestStream(22));
    expect(first.map((each) => each.step)).toEqual([0, 1, 2, 3, 4]);
    const seen = first.flatMap((each) => each.indices);
    expect([seen.length, new Set(seen).size]).toEqual([20, 20]);
    const order = [...new RandomStream({ seed: 3, epoch: 0, index: 0, stream: 99 }).permutation(22)];
    expect(seen).toEqual(order.slice(0, 20));
    expect(await run(new TestStream(22), {}, 1)).not.toEqual(first);
  });

  test("goes on where a run was stopped, with bad images on the way", async () => {
    const bad = [2, 11];
    const whole = await run(new TestStream(22, bad));
    expect(whole).toHaveLength(5);
    expect(whole.flatMap((each) => each.indices)).not.toContain(11);
    for (const startStep of [1, 4]) {
      expect(await run(new TestStream(22, bad), {}, 0, startStep)).toEqual(whole.slice(startStep));
      expect(await run(new TestStream(22, bad), { knownBad: bad }, 0, startStep)).toEqual(whole.slice(startStep));
    }
    expect(await run(new TestStream(22, bad), { threads: 5, prefetch: 4 })).toEqual(whole);
  });

  test("begins again when bad images leave it short", async () => {
    const source = new TestStream(8, [1]);
    const seen = (await run(source)).flatMap((each) => each.indices);
    expect([seen.length, seen[7]]).toEqual([8, seen[0]]);
    expect(source.given).toBeGreaterThan(8);
  });

  test("is shared by ranks", async () => {
    const ranks = await Promise.all([0, 1].map((rank) => run(new TestStream(16), { rank, worldSize: 2 })));
    const all = ranks.flat().flatMap((each) => each.indices).sort((a, b) => a - b);
    expect(all).toEqual(Array.from({ length: 16 }, (_, i) => i));
  });

  test("is ended when the consumer stops early", async () => {
    const source = new TestStream(400);
    const loader = new TwoViewLoader(source, { batchSize: 4, imageSize: 16, seed: 3 });
    for await (using batch of loader.epoch(0)) {
      expect(batch.indices).toHaveLength(4);
      break;
    }
    await loader.close();
    expect(source.ended).toBe(1);
    expect(source.given).toBeLessThan(60);
  });

  test("that waits for ever is left at once", async () => {
    let wake: (() => void) | null = null;
    const silent: ImageStream = {
      length: 80,
      stream: () => {
        let given = 0;
        const iterator = {
          next: async (): Promise<IteratorResult<StreamedImage, undefined>> => {
            if (given < 9) return { value: { id: given, name: String(given), label: null, image: synthetic(given++) }, done: false };
            await new Promise<void>((resolve) => (wake = resolve));
            return { value: undefined, done: true };
          },
          return: async (): Promise<IteratorResult<StreamedImage, undefined>> => {
            wake?.();
            return { value: undefined, done: true };
          },
        };
        return { [Symbol.asyncIterator]: () => iterator };
      },
    };
    const loader = new TwoViewLoader(silent, { batchSize: 4, imageSize: 16, seed: 3 });
    for await (using batch of loader.epoch(0)) {
      expect(batch.indices).toEqual([0, 1, 2, 3]);
      break;
    }
    await loader.close();
    expect(wake).not.toBeNull();
  });

  test("names what is bad by the stream's own names, and stops at the limit", async () => {
    const attempt = run(new TestStream(40, [0, 1, 2]), { maxBad: 0.05 });
    await expect(attempt).rejects.toThrow(TooManyBadImagesError);
    await expect(attempt).rejects.toThrow(/shard\.tar\/\d: broken on purpose/);
  });

  test("that gives nothing is an error, not an endless wait", async () => {
    const empty: ImageStream = { length: 8, async *stream() {} };
    await expect(run(empty)).rejects.toThrow(/without any image/);
  });
});
