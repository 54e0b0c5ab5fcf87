import { Conv2d, init, Module } from "../nn/index.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { InputSizeError, ModelConfigError, type ImageSize } from "./errors.js";

/** What turns images into patch tokens; a ViT takes any. */
export interface PatchStem extends Module {
  /** Rows and columns of patches. */
  readonly gridSize: ImageSize;
  /** True where the projection is frozen, so that two encoders that share it give the same tokens. */
  readonly frozen: boolean;
}

/** The standard stem: cuts an image into squares and projects each linearly. `[N, 3, H, W]` to `[N, patches, embedDim]`, row by row. */
export class PatchEmbed extends Module implements PatchStem {
  readonly gridSize: ImageSize;
  readonly proj: Conv2d;

  /**
   * @param frozen the projection keeps its random initial values: MoCo v3 found that this stabilises training (section 4.2 of the paper).
   */
  constructor(readonly imageSize: ImageSize, readonly patchSize: number, readonly embedDim: number, readonly frozen = false) {
    super();
    this.gridSize = patchGrid(imageSize, patchSize);
    this.proj = this.child("proj", new Conv2d(3, embedDim, patchSize, { stride: patchSize }));
    // Xavier uniform of the linear layer that this convolution is: 3·p² inputs, embedDim outputs.
    const bound = Math.sqrt(6 / (3 * patchSize ** 2 + embedDim));
    init.uniform_(this.proj.weight, -bound, bound);
    if (this.proj.bias) init.zeros_(this.proj.bias);
    if (frozen) this.proj.requiresGrad_(false);
  }

  forward(images: Tensor): Tensor {
    requireImages(images, this.imageSize);
    const { patchSize: p, gridSize: [rows, columns] } = this;
    // Patches do not overlap, so the convolution is one matrix product, and its output already lies in memory as tokens. Calling the
    // convolution is no faster, and the kernel that oneDNN 3.10 takes for its gradient corrupts memory when a signal (Ctrl-C, a
    // profiler's) arrives meanwhile.
    const pixels = images.reshape([-1, 3, rows, p, columns, p]).permute([0, 2, 4, 1, 3, 5]).reshape([-1, rows * columns, 3 * p * p]);
    return torch.linear(pixels, this.proj.weight.flatten(1), this.proj.bias); // [N, rows * columns, D]
  }
}

/** Rows and columns of patches in an image. */
export function patchGrid([height, width]: ImageSize, patchSize: number): ImageSize {
  if (height % patchSize !== 0 || width % patchSize !== 0) {
    const nearest = [height, width].map((size) => Math.max(1, Math.round(size / patchSize)) * patchSize);
    throw new ModelConfigError(
      `imageSize ${height}x${width} is not divisible by patchSize ${patchSize}: the nearest size that is, is ${nearest.join("x")}.`,
    );
  }
  return [height / patchSize, width / patchSize];
}

/** Checks that a batch of images has the size that the model was built for. */
export function requireImages(images: Tensor, imageSize: ImageSize): void {
  const { shape } = images;
  const fits = shape.length === 4 && shape[1] === 3 && shape[2] === imageSize[0] && shape[3] === imageSize[1];
  if (!fits) throw new InputSizeError(shape, imageSize);
}
