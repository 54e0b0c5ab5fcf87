/** Frozen encoders, nearest neighbours and checkpoints of features on a GPU. */
import { expect, test } from "@jest/globals";
import { createModel, ResNet, VisionTransformer, type Encoder } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import { FeatureError, FeatureExtractor } from "../../lib/train/features.js";
import { knnAccuracy, nearestNeighbours, recallAt } from "../../lib/train/neighbours/knn.js";
import { memorySource } from "../data/pixels.js";
import { maxRelative, numbers } from "../support/digest.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { gpu, onGpu } from "./onGpu.js";

expectNoTensorsLeft();

const encoders: [string, () => Encoder][] = [
  ["a ViT", () => new VisionTransformer({ imageSize: 32, patchSize: 8, embedDim: 48, depth: 3, numHeads: 3, numClasses: 0 })],
  ["a ViT with a convolutional stem", () => new VisionTransformer({ imageSize: 32, embedDim: 48, depth: 2, numHeads: 3, numClasses: 0, stem: "conv" })],
  ["a ResNet", () => new ResNet({ block: "basic", layers: [1, 1, 1, 1], width: 16, numClasses: 0 })],
];

onGpu("features on a GPU", () => {
  test.each(encoders)("of %s are the CPU's", async (_, build) => {
    torch.setBackendFlags({ tf32: false });
    torch.manualSeed(3);
    using encoder = build();
    const source = memorySource(13, [4]);
    const options = { imageSize: 32, batchSize: 4 };
    using onCpu = await new FeatureExtractor(encoder, options).extract(source);
    encoder.to(gpu);
    using onDevice = await new FeatureExtractor(encoder, { ...options, device: gpu }).extract(source);
    expect(onDevice.features.device).toBe(gpu);
    expect(onDevice.names).toEqual(onCpu.names);
    expect(maxRelative(numbers(onDevice.features), numbers(onCpu.features))).toBeLessThan(1e-5);
    using half = await new FeatureExtractor(encoder, { ...options, device: gpu, precision: "bf16" }).extract(source);
    expect(half.features.dtype).toBe("float32");
    expect(maxRelative(numbers(half.features), numbers(onCpu.features))).toBeLessThan(0.1);
  });

  test("batches without any readable image are no trouble", async () => {
    using encoder = encoders[0]![1]().to(gpu);
    const source = memorySource(8, [0, 1, 2, 3]);
    using table = await new FeatureExtractor(encoder, { batchSize: 4, device: gpu }).extract(source);
    expect(table.features.shape).toEqual([4, 48]);
  });

  test("that are not finite are refused", async () => {
    using encoder = encoders[0]![1]().to(gpu);
    torch.noGrad(() => encoder.parameters()[0]!.fill_(NaN));
    await expect(new FeatureExtractor(encoder, { device: gpu }).extract(memorySource(3))).rejects.toThrow(FeatureError);
  });

  test("vote and rank as on the CPU", () => {
    torch.scope(() => {
      torch.manualSeed(9);
      const labels = Array.from({ length: 600 }, (_, i) => i % 7);
      const centres = torch.randn([7, 32]);
      const features = centres.indexSelect(0, torch.tensor(labels, undefined, { dtype: "int64" })).add(torch.randn([600, 32]).mul(1.5));
      const [queries, gallery] = [features.narrow(0, 0, 100), features.narrow(0, 100, 500)];
      const accuracy = (device: string): number =>
        knnAccuracy({ features: queries.to(device), labels: labels.slice(0, 100) }, { features: gallery.to(device), labels: labels.slice(100) });
      expect(accuracy("cpu")).toBeGreaterThan(0.5);
      expect(Math.abs(accuracy(gpu) - accuracy("cpu"))).toBeLessThanOrEqual(0.01);
      expect(nearestNeighbours(queries.to(gpu), gallery.to(gpu), 3).map(([first]) => first))
        .toEqual(nearestNeighbours(queries, gallery, 3).map(([first]) => first));
      expect(recallAt(queries.to(gpu), queries.add(0.01).to(gpu), [1])).toEqual(recallAt(queries, queries.add(0.01), [1]));
    });
  });

  test("a whole ViT-S runs there", () => {
    torch.scope(() => {
      using encoder = createModel("vit_small", { numClasses: 0 }).to(gpu);
      const extractor = new FeatureExtractor(encoder as Encoder, { device: gpu, precision: "bf16" });
      const features = extractor.forward(torch.randn([8, 3, 224, 224]));
      expect(features.shape).toEqual([8, 384]);
      expect(features.isfinite().all().item()).toBe(true);
    });
  });
});
