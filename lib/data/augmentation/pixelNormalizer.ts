import { noGrad, scope, empty, full, keep, tensor, type Tensor } from "../../torch/index.js";
import { DataOptionError } from "../errors.js";
import { imageNetNormalization, type Normalization } from "../imagePool.js";
import { normalize } from "./deviceKernels.js";

/**
 * Normalises views that a loader gave as bytes (`dtype: "uint8"`), a part of a batch at a time: a quarter of the memory of views that are
 * normalised at once, and the same bits.
 *
 * @example
 * using normalizer = new PixelNormalizer("cpu");
 * const images = normalizer.apply(view.narrow(0, 0, 32)); // float32 [32, 3, H, W]
 */
export class PixelNormalizer {
  readonly #constants: { full: Tensor };
  readonly #mean: Tensor;
  readonly #std: Tensor;

  constructor(device: string, { mean, std }: Normalization = imageNetNormalization) {
    this.#constants = { full: keep(full([], 255, { dtype: "float32", device })) };
    [this.#mean, this.#std] = [mean, std].map((values) => keep(tensor(Float32Array.from(values), [3, 1, 1], { device }))) as [Tensor, Tensor];
  }

  /**
   * @param pixels uint8 `[N, 3, H, W]` on the normaliser's device
   * @returns float32 of the same shape: (pixel / 255 - mean) / deviation
   * @throws {DataOptionError} for tensors of another kind
   */
  apply(pixels: Tensor): Tensor {
    const { shape, dtype, device } = pixels;
    if (dtype !== "uint8" || shape.length !== 4 || shape[1] !== 3) {
      throw new DataOptionError(`the pixels are ${dtype}[${shape.join(", ")}]; give uint8 [N, 3, H, W]`);
    }
    return noGrad(() => scope(() => {
      const output = empty(shape, { dtype: "float32", device });
      normalize(pixels, this.#mean, this.#std, output, this.#constants);
      return output;
    }));
  }

  dispose(): void {
    for (const each of [this.#constants.full, this.#mean, this.#std]) each.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
