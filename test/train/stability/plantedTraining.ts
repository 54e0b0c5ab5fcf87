/** Trainings with something wrong in them, planted by what the images show, so that a resumed run meets it again. */
import type { ImageSource } from "../../../lib/data/index.js";
import { VisionTransformer } from "../../../lib/models/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import type { PretrainOptions } from "../../../lib/train/pretrainOptions.js";
import { memorySource, synthetic } from "../../data/pixels.js";
import { tinyOptions } from "../tinyRun.js";

/** An image with this index is white, which no other is. */
export const WHITE = 5;

/** Synthetic images, and a white one. */
export function whiteAmongOthers(): ImageSource {
  const source = memorySource(13);
  return {
    ...source,
    length: source.length,
    image: async (index) => {
      const image = synthetic(index);
      return index === WHITE ? { ...image, data: image.data.fill(255) } : image;
    },
  };
}

/** The tiny ViT, whose gradient is `factor` times as long in batches that show the white image; its features stay as they are. */
export class SpikingTransformer extends VisionTransformer {
  constructor(numClasses: number, private readonly factor: number, stopGradConv1 = false) {
    super({ imageSize: 16, patchSize: 8, embedDim: 16, depth: 2, numHeads: 2, numClasses, stopGradConv1 });
  }

  override embedPatches(images: Tensor): Tensor {
    const tokens = super.embedPatches(images);
    const white = torch.scope(() => images.mean([1, 2, 3]).max().item()) > 2;
    // Forward nothing is added; backward the added part counts.
    return white ? tokens.add(tokens.sub(tokens.detach()), { alpha: this.factor - 1 }) : tokens;
  }
}

/** Nothing but crops: a white image stays white. */
const plain = { jitterProbability: 0, grayscaleProbability: 0, blurProbability: 0, solarizeProbability: 0 };

/** Twelve epochs of three steps; the white image is in one step of most epochs. */
export const spikingOptions = {
  ...tinyOptions,
  data: whiteAmongOthers(),
  encoder: (numClasses) => new SpikingTransformer(numClasses, 1000),
  augmentation: [plain, plain],
  epochs: 12,
} satisfies PretrainOptions;
