import type { EncoderSpec } from "../checkpoint/index.js";
import { projectorFromFile } from "../moco/index.js";
import { encoderFromFile, type Encoder } from "../models/index.js";
import { FeatureError, type FeatureLayer } from "./features.js";
import { readEncoder } from "./initialWeights.js";

/** What a checkpoint does not tell of its encoder. */
export interface FrozenEncoderOptions {
  /** Attention heads of a ViT, where they are not what the file says or its kind usually has. */
  numHeads?: number | undefined;
  /** `"projector"` puts the checkpoint's projector behind the encoder. */
  layer?: FeatureLayer | undefined;
  /** Where the encoder shall be. Default `"cpu"`. */
  device?: string | undefined;
}

/** An encoder for features, out of a checkpoint. */
export interface FrozenEncoder {
  encoder: Encoder;
  /** The file that it is from. */
  file: string;
  spec: EncoderSpec;
}

/**
 * Reads an encoder that features are taken from, out of whatever `readEncoder` knows.
 *
 * @throws CheckpointNotFoundError, CheckpointError, ConvertError, ModelConfigError or StateDictError that say what does not fit;
 *   FeatureError for the layer `"projector"` of a checkpoint that has none
 */
export async function loadFrozenEncoder(path: string, { numHeads, layer, device = "cpu" }: FrozenEncoderOptions = {}): Promise<FrozenEncoder> {
  using read = await readEncoder(path, { numHeads });
  const { file, spec, recognised } = read;
  const encoder = encoderFromFile(read);
  try {
    if (layer === "projector") {
      const projector = projectorFromFile(read);
      if (projector === null) {
        throw new FeatureError(
          `${file} has no projector: it is of kind ${recognised.kind}, and only pre-training checkpoints (moco-v3) keep one; ` +
          `leave the layer out, or give the checkpoint of the pre-training`,
        );
      }
      encoder.head.dispose();
      encoder.head = projector;
    }
    encoder.eval().to(device);
    return { encoder, file, spec };
  } catch (error) {
    encoder.dispose();
    throw error;
  }
}
