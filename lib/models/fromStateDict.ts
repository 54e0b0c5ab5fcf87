import { sizesOf, type EncoderSpec } from "../checkpoint/index.js";
import type { Tensor } from "../torch/index.js";
import type { Encoder } from "./encoder.js";
import { ModelConfigError, type ImageSize } from "./errors.js";
import { ResNet } from "./resnet.js";
import { VisionTransformer } from "./vit.js";

/** What a ViT's function depends on and its tensors do not tell. A ResNet needs none of it. */
export interface EncoderFromStateDictOptions {
  /** Attention heads. Default 12, as all of MoCo v3's ViTs have; those of timm and DeiT have one for 64 of the width. */
  numHeads?: number | null;
  /** Height and width in pixels. Default: the square that the positions stand for. */
  imageSize?: ImageSize | null;
  /** Added to the variance in every LayerNorm. Default 1e-6. */
  normEps?: number;
}

/**
 * Builds the encoder that a backbone's state dict belongs to, without a classifier, and loads it: a ViT or a ResNet of any size, which is
 * read off the shapes. Keys of a head (`head.*`, `fc.*`) are passed over. A ViT's positions are loaded too, fixed or learned.
 *
 * @param state under our names, as `backboneOf` gives it
 * @throws ConvertError when the tensors are of neither; ModelConfigError for options that do not fit; StateDictError for tensors that don't
 */
export function encoderFromStateDict(state: ReadonlyMap<string, Tensor>, options: EncoderFromStateDictOptions = {}): Encoder {
  const sizes = sizesOf(state);
  let encoder: Encoder;
  if (sizes.family === "resnet") {
    const { block, layers, width, groups, widthPerGroup } = sizes;
    encoder = new ResNet({ block, layers, width, groups, widthPerGroup, numClasses: 0 });
  } else {
    const { width, depth, positions, patchSize, mlpRatio, stem } = sizes;
    const imageSize = options.imageSize ?? squareOf(positions, patchSize);
    encoder = new VisionTransformer({
      imageSize, patchSize, embedDim: width, depth, numHeads: options.numHeads ?? 12, normEps: options.normEps, numClasses: 0, stem,
      mlpRatio: (Math.round(width * mlpRatio) + 0.5) / width, // rounded down to the hidden width, whatever the quotient's last bit
    });
  }
  try {
    encoder.loadStateDict(new Map([...state].filter(([key]) => !key.startsWith(`${encoder.headKey}.`))));
    return encoder;
  } catch (error) {
    encoder.dispose();
    throw error;
  }
}

/**
 * Builds the encoder that `readEncoderFile` found, as the file's own program would run it.
 *
 * @throws ModelConfigError where the number of attention heads is unknown; StateDictError for tensors that do not fit
 * @example
 * using read = await readEncoderFile("vit-s-300ep.pth.tar");
 * const encoder = encoderFromFile(read);
 */
export function encoderFromFile({ backbone, spec }: { backbone: ReadonlyMap<string, Tensor>; spec: EncoderSpec }): Encoder {
  if (spec.sizes.family === "vit" && spec.numHeads === null) {
    throw new ModelConfigError(
      `the number of attention heads of the ViT of width ${spec.sizes.width} is unknown; give it (numHeads, --heads)`,
    );
  }
  return encoderFromStateDict(backbone, spec);
}

function squareOf(positions: number, patchSize: number): ImageSize {
  const side = Math.sqrt(positions);
  if (!Number.isInteger(side)) {
    throw new ModelConfigError(`the ViT has ${positions} positions, which are no square grid: give its imageSize.`);
  }
  return [side * patchSize, side * patchSize];
}
