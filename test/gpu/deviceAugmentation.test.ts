import { expect, test } from "@jest/globals";
import { DeviceAugmentation } from "../../lib/data/augmentation/deviceAugmentation.js";
import { onDevice, type HostBatch } from "../../lib/data/augmentation/deviceBatches.js";
import type { PixelParameters } from "../../lib/data/augmentation/devicePlan.js";
import { RandomStream } from "../../lib/data/index.js";
import * as torch from "../../lib/torch/index.js";
import { drawPixelParameters } from "../support/pixelParameters.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { onGpu } from "./onGpu.js";

expectNoTensorsLeft();

const random = new RandomStream({ seed: 5, epoch: 0, index: 0, stream: 0 });

const draw = (): PixelParameters => drawPixelParameters(random, 4);

function crops(count: number, options: { pinMemory?: boolean } = {}): torch.Tensor {
  using made = torch.randint(0, 256, [count, 3, 224, 224], { dtype: "uint8" });
  return torch.empty(made.shape, { dtype: "uint8", ...options }).copy_(made);
}

onGpu("augmentation on a GPU", () => {
  test("gives what the CPU gives, bit for bit", () => {
    using host = crops(96);
    using device = host.to("cuda:0");
    const parameters = Array.from({ length: 96 }, draw);
    using cpu = new DeviceAugmentation("cpu");
    using expected = cpu.apply(host, parameters);
    for (const valuesAtOnce of [2 ** 25, 2 ** 22]) {
      using cuda = new DeviceAugmentation("cuda", { valuesAtOnce });
      using actual = cuda.apply(device, parameters);
      using back = actual.to("cpu");
      expect(torch.scope(() => torch.ne(back, expected).sum().item())).toBe(0);
    }
  });

  test("in its own stream it hands over what is ready, whatever the consumer has queued", async () => {
    const steps = 6;
    const parameters = Array.from({ length: steps }, () => [Array.from({ length: 32 }, draw), Array.from({ length: 32 }, draw)] as const);
    using cpu = new DeviceAugmentation("cpu");
    using cuda = new DeviceAugmentation("cuda");
    const expected: number[][] = [];
    const batches = async function* (): AsyncGenerator<HostBatch> {
      for (let step = 0; step < steps; step++) {
        const views = [crops(32, { pinMemory: true }), crops(32, { pinMemory: true })] as const;
        expect(views.every((view) => torch.isPinned(view))).toBe(true);
        expected.push(views.map((view, i) => torch.scope(() => cpu.apply(view, parameters[step]![i]!).sum({ dtype: "float64" }).item())));
        yield {
          views, parameters: parameters[step]!, samples: [], step,
          // Written over as soon as that is allowed: a copy still under way would show.
          [Symbol.dispose]: () => views.forEach((view) => view.fill_(0).dispose()),
        };
      }
    };
    using work = torch.rand([4096, 4096], { device: "cuda" });
    const sums: torch.Tensor[][] = [];
    for await (using batch of onDevice(batches(), cuda)) {
      torch.scope(() => {
        for (let i = 0; i < 20; i++) work.matmul(work); // keeps the consumer's stream behind
      });
      sums.push(batch.views.map((view) => view.sum({ dtype: "float64" })));
    }
    // The device adds in another order.
    sums.flat().forEach((sum, i) => expect(sum.item()).toBeCloseTo(expected.flat()[i]!, 4));
    sums.flat().forEach((sum) => sum.dispose());
  });
});
