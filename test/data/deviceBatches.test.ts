import { afterAll, expect, test } from "@jest/globals";
import { DeviceAugmentation } from "../../lib/data/augmentation/deviceAugmentation.js";
import { onDevice, type HostBatch } from "../../lib/data/augmentation/deviceBatches.js";
import type { PixelParameters } from "../../lib/data/augmentation/devicePlan.js";
import { DataOptionError } from "../../lib/data/index.js";
import type { Sample } from "../../lib/data/loading/epochSamples.js";
import * as torch from "../../lib/torch/index.js";
import { nothing } from "../support/pixelParameters.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

// Registered first: it runs before the tensors are counted.
afterAll(() => augmentation.dispose());
expectNoTensorsLeft();

const augmentation = new DeviceAugmentation("cpu", { normalization: { mean: [0, 0, 0], std: [1, 1, 1] } });

const sample = (id: number): Sample => ({ id, name: `image ${id}`, label: null, image: () => "" });

/** What happened to the host batches, in order. */
class Log {
  readonly entries: string[] = [];

  batch(step: number, parameters: PixelParameters = nothing): HostBatch {
    const views = [0, 1].map((view) => torch.full([1, 3, 2, 2], 51 * (step + view), { dtype: "uint8" })) as [torch.Tensor, torch.Tensor];
    this.entries.push(`make ${step}`);
    return {
      views, parameters: [[nothing], [parameters]], samples: [sample(10 + step)], step,
      [Symbol.dispose]: () => {
        this.entries.push(`free ${step}`);
        views.forEach((view) => view.dispose());
      },
    };
  }

  async *batches(count: number, end: (step: number) => void = () => undefined): AsyncGenerator<HostBatch> {
    try {
      for (let step = 0; step < count; step++) {
        end(step);
        yield this.batch(step);
      }
    } finally {
      this.entries.push("end");
    }
  }
}

test("batches come augmented and in order, and the host's are freed", async () => {
  const log = new Log();
  const seen: [number, number[], number, number][] = [];
  for await (using batch of onDevice(log.batches(3), augmentation)) {
    const [first, second] = batch.views.map((view) => torch.scope(() => view.mean().item())) as [number, number];
    seen.push([batch.step, batch.samples.map(({ id }) => id), first, second]);
    log.entries.push(`use ${batch.step}`);
  }
  expect(seen.map(([step, indices]) => [step, indices])).toEqual([[0, [10]], [1, [11]], [2, [12]]]);
  for (const [step, , first, second] of seen) {
    expect(first).toBeCloseTo(0.2 * step, 6);
    expect(second).toBeCloseTo(0.2 * (step + 1), 6);
  }
  expect(log.entries).toEqual(["make 0", "free 0", "use 0", "make 1", "free 1", "use 1", "make 2", "free 2", "use 2", "end"]);
});

test("a consumer that leaves early leaves nothing behind", async () => {
  const log = new Log();
  for await (using batch of onDevice(log.batches(5), augmentation)) {
    if (batch.step === 1) break;
  }
  expect(log.entries).toEqual(["make 0", "free 0", "make 1", "free 1", "end"]);
});

test("an error of the source comes after the batches before it", async () => {
  const log = new Log();
  const steps: number[] = [];
  const failing = onDevice(log.batches(5, (step) => {
    if (step === 2) throw new RangeError("no more");
  }), augmentation);
  await expect((async () => {
    for await (using batch of failing) steps.push(batch.step);
  })()).rejects.toThrow(new RangeError("no more"));
  expect(steps).toEqual([0, 1]);
  expect(log.entries.at(-1)).toBe("end");
});

test("an error of the augmentation frees the batch and ends the source", async () => {
  const log = new Log();
  const batches = async function* (): AsyncGenerator<HostBatch> {
    try {
      yield log.batch(0, { ...nothing, blurSigma: NaN });
    } finally {
      log.entries.push("end");
    }
  };
  await expect(onDevice(batches(), augmentation).next()).rejects.toThrow(DataOptionError);
  expect(log.entries).toEqual(["make 0", "end", "free 0"]);
});

test("a consumer on another device is refused before anything is taken", async () => {
  const log = new Log();
  const refused = onDevice(log.batches(1), augmentation, torch.newStream("meta"));
  await expect(refused.next()).rejects.toThrow(/stream is on meta; give one of cpu/);
  expect(log.entries).toEqual([]);
});
