import { expect, test } from "@jest/globals";
import { fastestPrecision } from "../../lib/train/options.js";
import { resolveOptions, trainingFacts } from "../../lib/train/pretrainOptions.js";
import { VisionTransformer } from "../../lib/models/index.js";
import { tinyOptions } from "./tinyRun.js";

test.each([
  ["vit_small", true, "bf16"], ["vit_base", true, "bf16"], ["vit_small", false, "fp16"], ["vit_conv_small", true, "fp16"], ["resnet50", true, "fp16"],
  ["custom", true, "fp16"],
])("auto takes what was measured to be fastest: %s, where there is bfloat16: %s", (arch, hasBfloat16, expected) => {
  expect(fastestPrecision(arch, "cuda:0", () => hasBfloat16)).toBe(expected);
  expect(fastestPrecision(arch, "cpu")).toBe("fp32");
});

test("auto, the default, is settled when a run begins, and the run tells what it became", () => {
  const recipe = resolveOptions(tinyOptions);
  expect(resolveOptions({ ...tinyOptions, precision: "auto" })).toEqual(recipe);
  expect(recipe.precision).toBe("fp32");
  using encoder = tinyOptions.encoder(8) satisfies VisionTransformer;
  expect(trainingFacts(recipe, encoder)).toMatchObject({ precision: "fp32" });
  expect(trainingFacts(recipe, encoder)).not.toHaveProperty("tf32");
  expect(trainingFacts(resolveOptions({ ...tinyOptions, tf32: true }), encoder)).toMatchObject({ tf32: true });
});
