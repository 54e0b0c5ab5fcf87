import type { Tensor } from "../../torch/index.js";
import type { EncoderSizes } from "./architecture.js";
import { sizesOf } from "./backbone.js";
import { ConvertError } from "./convertError.js";
import type { RecognisedCheckpoint } from "./recognise.js";

/** Of LayerNorms in MoCo v3, timm and torchvision. */
export const NORM_EPS = 1e-6;
/** Of `ViTConfig` where the file config.json does not say it. */
const HUGGINGFACE_EPS = 1e-12;

/** All that an encoder's function depends on besides its tensors. */
export interface EncoderSpec {
  arch: string | null;
  sizes: EncoderSizes;
  /** Null for a ResNet, and for a ViT of which nothing tells it. */
  numHeads: number | null;
  /** Height and width in pixels. A ResNet takes any: the size that it was trained on, or null where the file does not tell. */
  imageSize: [number, number] | null;
  /** Of a ViT's LayerNorms. */
  normEps: number;
  /** What was assumed, in words. */
  notes: string[];
}

export interface SpecOptions {
  /** Attention heads of a ViT; they go before what the file says. */
  numHeads?: number | undefined;
}

/**
 * Gathers what is known about an encoder.
 *
 * @throws ConvertError for a number of heads that the width is not divisible by, and for positions that form no known grid
 */
export function specOf(recognised: RecognisedCheckpoint, backbone: ReadonlyMap<string, Tensor>, options: SpecOptions = {}): EncoderSpec {
  const sizes = sizesOf(backbone);
  const { kind, arch } = recognised;
  if (sizes.family === "resnet") {
    if (options.numHeads !== undefined) {
      throw new ConvertError(`${options.numHeads} heads were given for a ResNet, which has none; leave them out`);
    }
    return { arch, sizes, numHeads: null, imageSize: recognised.imageSize, normEps: NORM_EPS, notes: [] };
  }
  const { width, positions, patchSize } = sizes;
  const numHeads = options.numHeads ?? recognised.numHeads;
  if (numHeads !== null && (!Number.isSafeInteger(numHeads) || numHeads < 1 || width % numHeads !== 0)) {
    throw new ConvertError(`${numHeads} attention heads do not divide the width ${width}; give a number that does`);
  }
  const { imageSize } = recognised;
  if (imageSize === null) {
    throw new ConvertError(
      `the ViT has ${positions} positions (patches of ${patchSize}), which are no square grid, and the file does not tell the image ` +
      "size; convert the file it was made from, to encoder, safetensors or huggingface",
    );
  }
  const normEps = recognised.normEps ?? (kind === "huggingface" ? HUGGINGFACE_EPS : NORM_EPS);
  const notes = options.numHeads === undefined ? headNotes(recognised) : [];
  if (kind === "huggingface" && recognised.normEps === null) {
    notes.push("there is no config.json beside the weights: LayerNorms are taken to have ViTConfig's default eps 1e-12");
  }
  return { arch, sizes, numHeads, imageSize, normEps, notes };
}

function headNotes({ numHeads, numHeadsFrom, fixedPositions, width }: RecognisedCheckpoint): string[] {
  if (numHeads === null) {
    return [`the file does not tell the number of attention heads, and no convention fits the width ${width}; give --heads`];
  }
  if (numHeadsFrom !== "convention") return [];
  return fixedPositions
    ? [`${numHeads} attention heads assumed, as all of MoCo v3's ViTs have: the fixed positions are theirs (--heads for others)`]
    : [`${numHeads} attention heads assumed, one for each ${width! / numHeads} of the width; the file does not tell (--heads for others)`];
}
