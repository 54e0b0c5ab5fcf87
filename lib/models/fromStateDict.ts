import { sizesOf, type EncoderSizes, type EncoderSpec } from "../checkpoint/index.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import type { Encoder } from "./encoder.js";
import { ModelConfigError, requireNoDropPath, type ImageSize } from "./errors.js";
import { patchGrid } from "./patchEmbed.js";
import { interpolatePositions } from "./positionInterpolation.js";
import { ResNet } from "./resnet.js";
import { VisionTransformer } from "./vit.js";

/** What an encoder depends on and its tensors do not tell. */
export interface EncoderFromStateDictOptions {
  /** Attention heads. Default 12, as all of MoCo v3's ViTs have; those of timm and DeiT have one for 64 of the width. */
  numHeads?: number | null;
  /** Height and width in pixels. Default: the square that a ViT's positions stand for; 224 x 224 for a ResNet. */
  imageSize?: ImageSize | null;
  /** Added to the variance in every LayerNorm. Default 1e-6. */
  normEps?: number;
  /** Stochastic depth of a ViT in training; see `VisionTransformerOptions`. Default 0. */
  dropPath?: number;
}

/** In what an encoder may differ from the file that it is from. */
export interface EncoderFromFileOptions {
  /** Height and width in pixels, or the side of a square: a ViT's positions are interpolated. Default: the file's. ResNets take any size. */
  imageSize?: number | ImageSize;
  /** Stochastic depth of a ViT in training; see `VisionTransformerOptions`. Default 0. */
  dropPath?: number;
}

/**
 * Builds the encoder that a backbone's state dict belongs to, without a classifier, and loads it: a ViT or a ResNet of any size, which is
 * read off the shapes. Keys of a head (`head.*`, `fc.*`) are passed over. A ViT's positions are loaded too, fixed or learned.
 *
 * @param state under our names, as `backboneOf` gives it
 * @throws ConvertError when the tensors are of neither; ModelConfigError for options that do not fit; StateDictError for tensors that don't
 */
export function encoderFromStateDict(state: ReadonlyMap<string, Tensor>, options: EncoderFromStateDictOptions = {}): Encoder {
  const encoder = freshEncoder(sizesOf(state), options);
  try {
    encoder.loadStateDict(new Map([...state].filter(([key]) => !key.startsWith(`${encoder.headKey}.`))));
    return encoder;
  } catch (error) {
    encoder.dispose();
    throw error;
  }
}

/**
 * Builds an encoder of the sizes that a file's tensors have, without a classifier and with new random weights.
 *
 * @throws ModelConfigError for options that do not fit
 */
export function freshEncoder(sizes: EncoderSizes, options: EncoderFromStateDictOptions = {}): Encoder {
  if (sizes.family === "resnet") {
    const { block, layers, width, groups, widthPerGroup } = sizes;
    return new ResNet({ block, layers, width, groups, widthPerGroup, imageSize: options.imageSize ?? undefined, numClasses: 0 });
  }
  const { width, depth, positions, patchSize, mlpRatio, stem } = sizes;
  return new VisionTransformer({
    imageSize: options.imageSize ?? squareOf(positions, patchSize), patchSize, embedDim: width, depth, numHeads: options.numHeads ?? 12,
    normEps: options.normEps, numClasses: 0, stem, dropPath: options.dropPath,
    mlpRatio: (Math.round(width * mlpRatio) + 0.5) / width, // rounded down to the hidden width, whatever the quotient's last bit
  });
}

/**
 * Builds the encoder that `readEncoderFile` found, as the file's own program would run it, or for images of another size.
 *
 * @throws ModelConfigError where the number of attention heads is unknown, or the image size does not fit the patches or the architecture;
 * StateDictError for tensors that do not fit
 * @example
 * using read = await readEncoderFile("vit-s-300ep.pth.tar");
 * const encoder = encoderFromFile(read, { imageSize: 384 });
 */
export function encoderFromFile(
  { backbone, spec }: { backbone: ReadonlyMap<string, Tensor>; spec: EncoderSpec }, { imageSize, dropPath }: EncoderFromFileOptions = {},
): Encoder {
  const { sizes } = spec;
  if (sizes.family === "resnet") {
    requireNoDropPath(dropPath);
    return encoderFromStateDict(backbone, spec);
  }
  if (spec.numHeads === null) {
    throw new ModelConfigError(
      `the number of attention heads of the ViT of width ${sizes.width} is unknown; give it (numHeads, --heads)`,
    );
  }
  const own = spec.imageSize ?? squareOf(sizes.positions, sizes.patchSize);
  const wanted: ImageSize = imageSize === undefined ? own : typeof imageSize === "number" ? [imageSize, imageSize] : imageSize;
  const options = { ...spec, imageSize: wanted, dropPath };
  if (wanted[0] === own[0] && wanted[1] === own[1]) return encoderFromStateDict(backbone, options);
  const [from, to] = [own, wanted].map((size) => patchGrid(size, sizes.patchSize)) as [ImageSize, ImageSize];
  return torch.scope(() => {
    const positions = interpolatePositions(backbone.get("pos_embed")!, from, to);
    return encoderFromStateDict(new Map([...backbone, ["pos_embed", positions]]), options);
  });
}

function squareOf(positions: number, patchSize: number): ImageSize {
  const side = Math.sqrt(positions);
  if (!Number.isInteger(side)) {
    throw new ModelConfigError(`the ViT has ${positions} positions, which are no square grid: give its imageSize.`);
  }
  return [side * patchSize, side * patchSize];
}
