/** Positions for other image sizes, against PyTorch's bicubic interpolation as DeiT uses it. */
import { expect, test } from "@jest/globals";
import { encoderFromFile, interpolatePositions, ModelConfigError, VisionTransformer } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import { readEncoder } from "../../lib/train/initialWeights.js";
import { maxAbsolute, numbers } from "../support/digest.js";
import { fixturePath, readJson, readNpz } from "../support/fixtures.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

const arrays = readNpz<Float64Array>("finetune/parts.npz");
const { parts } = readJson<{ parts: { positions: [number, number, number, number][] } }>("finetune/manifest.json");
const golden = arrays.get("positions")!;

test.each(parts.positions)("a grid of %dx%d becomes one of %dx%d", (rows, columns, toRows, toColumns) => {
  const expected = arrays.get(`positions_${toRows}x${toColumns}`)!;
  for (const [dtype, limit] of [["float64", 1e-12], ["float32", 5e-6], ["bfloat16", 0.04]] as const) {
    torch.scope(() => {
      const positions = torch.tensor(golden.data, golden.shape).to(dtype);
      const found = interpolatePositions(positions, [rows, columns], [toRows, toColumns]);
      expect([found.shape, found.dtype]).toEqual([expected.shape, dtype]);
      expect(maxAbsolute(numbers(found.to("float64")), expected.data)).toBeLessThan(limit);
      expect(torch.equal(found.narrow(1, 0, 1), positions.narrow(1, 0, 1))).toBe(true); // the class token's
    });
  }
});

test("positions of another grid are refused", () => {
  using positions = torch.zeros([1, 13, 8]);
  expect(() => interpolatePositions(positions, [4, 4], [2, 2])).toThrow(/12 positions, which do not fill a grid of 4x4 patches/);
});

test("an encoder out of a file takes images of another size, square or not", async () => {
  using read = await readEncoder(fixturePath("finetune/start.pth"), { numHeads: 2 });
  for (const [imageSize, tokens] of [[undefined, 5], [8, 5], [16, 17], [[8, 12], 7]] as const) {
    const encoder = encoderFromFile(read, { imageSize, dropPath: 0.2 }) as VisionTransformer;
    const [height, width] = encoder.imageSize;
    expect([encoder.posEmbed.shape[1], encoder.dropPath, encoder.numHeads]).toEqual([tokens, 0.2, 2]);
    torch.scope(() => expect(encoder.forward(torch.zeros([2, 3, height, width])).shape).toEqual([2, 8]));
    // What is not interpolated is the file's.
    torch.scope(() => expect(torch.equal(encoder.clsToken, read.backbone.get("cls_token")!)).toBe(true));
    encoder.dispose();
  }
  expect(() => encoderFromFile(read, { imageSize: 18 })).toThrow(ModelConfigError);
  expect(() => encoderFromFile(read, { imageSize: 18 })).toThrow(/18x18 is not divisible by patchSize 4/);
  expect(() => encoderFromFile(read, { dropPath: 1 })).toThrow(/dropPath is 1: it is a probability of at least 0 and below 1/);
});

test("a ResNet takes any size, and has no stochastic depth", async () => {
  using read = await readEncoder(fixturePath("checkpoints/resnet_lars_zip.pth.tar"));
  encoderFromFile(read, { imageSize: 96 }).dispose();
  expect(() => encoderFromFile(read, { dropPath: 0.1 })).toThrow(/dropPath is 0.1: a ResNet has no stochastic depth/);
});
