import { readEncoderFile, type ReadEncoder, type ReadEncoderOptions } from "../checkpoint/index.js";
import type { MoCo } from "../moco/index.js";
import { VisionTransformer } from "../models/index.js";
import { findModel } from "./runs/checkpointFiles.js";

/** An encoder cannot be the beginning of a training: its weights would mean something else there. */
export class InitialWeightsError extends Error {
  override readonly name = "InitialWeightsError";
}

/**
 * Reads the encoder out of what a user names: any file that `moco convert` knows, a folder of Hugging Face's, or a run's folder for its
 * furthest checkpoint.
 *
 * @throws CheckpointNotFoundError, CheckpointError or ConvertError
 */
export async function readEncoder(path: string, options: ReadEncoderOptions = {}): Promise<ReadEncoder> {
  return readEncoderFile(await findModel(path), options);
}

/**
 * Lets a training begin with another encoder's weights: both encoders get them, the projectors and the predictor stay new.
 *
 * @returns what a user should know about them, in words
 * @throws InitialWeightsError where the tensors fit and the networks differ all the same; StateDictError where they do not fit
 */
export function beginWith(moco: MoCo, { file, backbone, spec, recognised }: ReadEncoder): string[] {
  const { baseEncoder } = moco;
  const notes: string[] = [];
  if (baseEncoder instanceof VisionTransformer && spec.sizes.family === "vit") {
    const { numHeads } = baseEncoder;
    if (spec.numHeads !== null && spec.numHeads !== numHeads) {
      // Query, key and value have the same shapes for any number of heads.
      if (recognised.numHeadsFrom !== "convention") {
        throw new InitialWeightsError(
          `${file} has ${spec.numHeads} attention heads and this training's encoder ${numHeads}: the weights would load and mean something ` +
          "else. Train an encoder with the same number (as a function: encoder, numHeads), or begin with another file",
        );
      }
      notes.push(
        `${file} looks like a ViT with ${spec.numHeads} attention heads, and this training's encoder has ${numHeads}; if so, its attention ` +
        "begins scrambled",
      );
    }
    if (spec.normEps !== baseEncoder.norm.eps) {
      notes.push(`${file} was trained with a LayerNorm eps of ${spec.normEps}; it is ${baseEncoder.norm.eps} from here on`);
    }
    if (recognised.fixedPositions === false) notes.push(`the learned positions of ${file} stay as they are: MoCo v3 does not train them`);
  }
  moco.loadBackbone(backbone);
  return notes;
}
