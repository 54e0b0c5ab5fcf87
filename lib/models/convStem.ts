import { BatchNorm2d, Conv2d, Module, ReLU, Sequential } from "../nn/index.js";
import type { Tensor } from "../torch/index.js";
import { ModelConfigError, type ImageSize } from "./errors.js";
import { patchGrid, requireImages, type PatchStem } from "./patchEmbed.js";

/** The stem reduces the image 16-fold, by four convolutions of stride 2. */
const STRIDE = 16;

/**
 * The convolutional stem of Xiao et al., "Early Convolutions Help Transformers See Better" (2021): four 3x3 convolutions of stride 2 and
 * width D/8, D/4, D/2, D, each with batch normalisation and ReLU, then a 1x1 convolution. `[N, 3, H, W]` to `[N, patches, D]`, row by row.
 */
export class ConvStem extends Module implements PatchStem {
  readonly gridSize: ImageSize;
  readonly proj: Sequential;
  /** The stem is always trained: it has no instability to cure. */
  readonly frozen = false;

  /** @throws ModelConfigError unless patchSize is 16 and embedDim is divisible by 8. */
  constructor(readonly imageSize: ImageSize, readonly patchSize: number, readonly embedDim: number) {
    super();
    if (patchSize !== STRIDE) {
      throw new ModelConfigError(
        `patchSize is ${patchSize}: the convolutional stem has patches of ${STRIDE}. Use ${STRIDE}, or stem: "patch".`,
      );
    }
    if (embedDim % 8 !== 0) {
      throw new ModelConfigError(
        `embedDim is ${embedDim}: the convolutional stem starts with an eighth of it, so it must be divisible by 8. ` +
          `Use ${Math.ceil(embedDim / 8) * 8}.`,
      );
    }
    this.gridSize = patchGrid(imageSize, patchSize);
    const widths = [3, embedDim / 8, embedDim / 4, embedDim / 2, embedDim];
    const layers: Module[] = [];
    for (let level = 1; level < widths.length; level++) {
      layers.push(
        new Conv2d(widths[level - 1] as number, widths[level] as number, 3, { stride: 2, padding: 1, bias: false, channelsLast: true }),
        new BatchNorm2d(widths[level] as number),
        new ReLU(true),
      );
    }
    layers.push(new Conv2d(embedDim, embedDim, 1, { channelsLast: true }));
    this.proj = this.child("proj", new Sequential(...layers));
  }

  forward(images: Tensor): Tensor {
    requireImages(images, this.imageSize);
    const patches = this.proj.forward(images.contiguous({ memoryFormat: "channels_last" })); // [N, D, gridH, gridW]
    return patches.flatten(2).transpose(1, 2); // [N, gridH * gridW, D]
  }
}
