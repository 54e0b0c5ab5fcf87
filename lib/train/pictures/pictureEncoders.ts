import { encoderFromFile, freshEncoder, type Encoder } from "../../models/index.js";
import * as torch from "../../torch/index.js";
import { readEncoder } from "../initialWeights.js";

/** A trained network, and one as it was before it learned anything. */
export interface PictureEncoders extends Disposable {
  trained: Encoder;
  /** Of the same sizes, with random weights. */
  random: Encoder;
  /** The file that the trained one is from. */
  file: string;
  /** What was assumed about it, in words. */
  notes: readonly string[];
}

/**
 * Reads the encoder of a checkpoint or of a run's folder, and builds one like it with the random weights of a seed. The process's random
 * numbers go on as if nothing had been drawn.
 *
 * @throws the errors of `readEncoder` and `encoderFromFile`
 */
export async function pictureEncoders(
  path: string, { seed, device, numHeads }: { seed: number; device: string; numHeads?: number | undefined },
): Promise<PictureEncoders> {
  using read = await readEncoder(path, { numHeads });
  const { file, spec } = read;
  const state = torch.keep(torch.getRngState());
  let trained: Encoder | undefined;
  try {
    const encoder = (trained = encoderFromFile(read)); // its weights are drawn too, before the file's take their place
    torch.manualSeed(seed);
    const random = freshEncoder(spec.sizes, spec);
    for (const each of [encoder, random]) each.eval().to(device);
    return { trained: encoder, random, file, notes: spec.notes, [Symbol.dispose]: () => [encoder, random].forEach((each) => each.dispose()) };
  } catch (error) {
    trained?.dispose();
    throw error;
  } finally {
    torch.setRngState(state);
    state.dispose();
  }
}
