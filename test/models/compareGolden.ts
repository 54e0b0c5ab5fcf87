/** A model against the reference, on any device: outputs, tokens, gradients and batch-normalisation buffers, in float64 and in float32. */
import { beforeAll, describe, expect, test } from "@jest/globals";
import { existsSync } from "node:fs";
import { digestError, maxRelative, relativeL2, type Digest } from "../support/digest.js";
import { fixturePath, readJson, readNpy, readNpz } from "../support/fixtures.js";
import { runGolden, sizesOf, type GoldenDigests, type GoldenRun, type Precision } from "./goldenModel.js";

export const goldenModels = [
  "vit_tiny", "vit_tiny_stopgrad", "convvit_tiny", "resnet18_div16", "resnet50_div32",
  "resnet18_full", "resnet50_full", "vit_small_full", "vit_conv_small_full",
];

/**
 * Limits from the fixtures' own measurements: outputs relative to the largest, gradients by relative Euclidean length, buffers like
 * outputs. In float32 a single ReLU that flips costs a ResNet's gradients up to 1e-3.
 */
const limits = {
  float64: { output: 1e-10, gradient: { vit: 1e-9, resnet: 1e-9 }, buffer: 1e-10 },
  float32: { output: 1e-5, gradient: { vit: 2e-5, resnet: 1e-3 }, buffer: 1e-5 },
};

/** The name of a file of this precision, or null where the fixture has none. */
function goldenFile(model: string, stem: string, precision: Precision, extension: string): string | null {
  const rel = `models/${model}/${stem}${precision === "float64" ? "_f64" : ""}.${extension}`;
  return existsSync(fixturePath(rel)) ? rel : null;
}

/** The worst digest error of a group of tensors, with the tensor's key. */
function worstDigest(found: ReadonlyMap<string, Float64Array>, expected: Record<string, Digest>): { key: string; error: number } {
  let worst = { key: "", error: 0 };
  for (const [key, digest] of Object.entries(expected)) {
    const error = digestError(found.get(key) ?? [], digest);
    if (!(error <= worst.error)) worst = { key, error };
  }
  return worst;
}

/** The tests of a model, to be called inside `describe`. */
export function testModel(model: string, device: string): void {
  describe.each(["float64", "float32"] as const)("%s", (precision) => {
    const family = sizesOf(model).kind === "resnet" ? "resnet" : "vit";
    const limit = limits[precision];
    const digestFile = model.endsWith("_full") && precision === "float32" ? "digest_f32" : "digest_f64";
    const digests = readJson<GoldenDigests>(`models/${model}/${digestFile}.json`);
    let run: GoldenRun;
    beforeAll(async () => {
      run = await runGolden(model, precision, device);
    }, 120_000);

    test("output in training and evaluation mode", () => {
      const file = goldenFile(model, "output", precision, "npy") as string;
      expect(maxRelative(run.output, readNpy<Float64Array>(file).data)).toBeLessThan(limit.output);
      expect(maxRelative(run.outputEval, readNpy<Float64Array>(`models/${model}/output_eval_f64.npy`).data)).toBeLessThan(limit.output);
      // The loss sums the outputs with weights of at most 1.
      const scale = run.output.reduce((sum, x) => sum + Math.abs(x), 0);
      expect(Math.abs(run.loss - digests.loss)).toBeLessThan(limit.output * scale);
    });

    if (family === "vit") {
      test("class feature and tokens", () => {
        const features = readNpy<Float64Array>(goldenFile(model, "features", precision, "npy") as string);
        expect(maxRelative(run.features, features.data)).toBeLessThan(limit.output);
        const tokens = `models/${model}/tokens_f64.npy`;
        if (existsSync(fixturePath(tokens))) {
          expect(maxRelative(run.tokens ?? [], readNpy<Float64Array>(tokens).data)).toBeLessThan(limit.output);
        }
      });
    }

    test("gradients", () => {
      expect([...run.gradients.keys()].sort()).toEqual(Object.keys(digests.grads).sort());
      expect(worstDigest(run.gradients, digests.grads).error).toBeLessThan(limit.gradient[family]);
      const file = goldenFile(model, "grads", precision, "npz");
      if (file === null) return;
      for (const [key, golden] of readNpz<Float64Array>(file)) {
        const error = relativeL2(run.gradients.get(key) ?? [], golden.data);
        expect({ key, passes: error < limit.gradient[family], error }).toMatchObject({ passes: true });
      }
    });

    test("buffers after the training pass", () => {
      expect([...run.buffers.keys()].sort()).toEqual(Object.keys(digests.buffers_after).sort());
      expect(worstDigest(run.buffers, digests.buffers_after).error).toBeLessThan(limit.buffer);
      const file = goldenFile(model, "buffers_after", precision, "npz");
      if (file === null) return;
      for (const [key, golden] of readNpz(file)) {
        const error = maxRelative(run.buffers.get(key) ?? [], Float64Array.from(golden.data as ArrayLike<number | bigint>, Number));
        expect({ key, passes: error < limit.buffer, error }).toMatchObject({ passes: true });
      }
    });
  });
}
