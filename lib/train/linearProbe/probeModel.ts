import type { ReadEncoder } from "../../checkpoint/index.js";
import { createModel, encoderFromFile, ModelConfigError, VisionTransformer, type Encoder } from "../../models/index.js";
import * as torch from "../../torch/index.js";
import { InitialWeightsError, readEncoder } from "../initialWeights.js";
import type { LinearRecipe } from "./linearOptions.js";
import { OptionError } from "../options.js";
import { randomSeed } from "../pretrainOptions.js";
import { readToResume } from "../runs/resuming.js";
import { SavedSupervised } from "../runs/supervisedState.js";

/** What a linear probe begins with. */
export interface ProbeStart extends Disposable {
  /** Its classifier is still to come. */
  encoder: Encoder;
  /** Name of the architecture, or `"custom"`. */
  arch: string;
  /** Of the run; the generator was seeded with it before random weights were drawn. */
  seed: number;
  /** The checkpoint that the run goes on from, or null. */
  saved: SavedSupervised | null;
  /** What a user should know about it. */
  notes: string[];
}

/**
 * Reads the encoder of a linear probe and the checkpoint that it goes on from. Disposing of the result frees the latter's tensors only.
 *
 * @param warn hears of checkpoints that are damaged
 * @throws RunFolderError where the run's folder has another run; the errors of checkpoints and models; InitialWeightsError for an encoder of another architecture than was asked for
 */
export async function openProbe(recipe: LinearRecipe, warn?: (message: string) => void): Promise<ProbeStart> {
  const out = recipe.evaluate ? null : recipe.out;
  const saved = await readToResume({ ...recipe, out }, (path) => SavedSupervised.read(path), warn);
  const dispose = (): void => saved?.dispose();
  try {
    const seed = recipe.seed ?? saved?.facts?.seed ?? randomSeed();
    torch.manualSeed(seed);
    const from = recipe.pretrained ?? saved?.path ?? null;
    if (from === null) {
      const arch = recipe.arch ?? "resnet50";
      const encoder = createModel(arch, { imageSize: recipe.imageSize ?? undefined, numClasses: 0 });
      const notes = [`the ${arch} has random weights: give a checkpoint with --pretrained to judge what it has learned`];
      return { encoder, arch, seed, saved, notes, [Symbol.dispose]: dispose };
    }
    using read = await readEncoder(from, { numHeads: recipe.numHeads ?? undefined });
    requireArchitecture(read, recipe.arch);
    const encoder = encoderFromFile(read);
    try {
      requireImageSize(encoder, recipe.imageSize);
    } catch (error) {
      encoder.dispose();
      throw error;
    }
    return { encoder, arch: read.spec.arch ?? "custom", seed, saved, notes: read.spec.notes, [Symbol.dispose]: dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

function requireArchitecture({ file, spec }: ReadEncoder, wanted: string | null): void {
  if (wanted === null || spec.arch === wanted) return;
  const { sizes } = spec;
  const found = spec.arch ?? (sizes.family === "vit" ? `a ViT of width ${sizes.width} and depth ${sizes.depth}` : `a ResNet of width ${sizes.width}`);
  throw new InitialWeightsError(`${file} is of ${found}, and --arch asks for ${wanted}; leave --arch out, or give another checkpoint`);
}

function requireImageSize(encoder: Encoder, wanted: number | null): void {
  if (wanted === null || !(encoder instanceof VisionTransformer)) return;
  const [height, width] = encoder.imageSize;
  if (height === wanted && width === wanted) return;
  throw new OptionError(
    `imageSize is ${wanted}, and the ViT takes ${height} x ${width} pixels, to which its positions belong; leave the size out ` +
      "(fine-tuning can fit the positions to another size)",
  );
}

/** Height and width of the encoder's input in pixels. */
export function inputSize(encoder: Encoder, wanted: number | null): readonly [number, number] {
  if (encoder instanceof VisionTransformer) return encoder.imageSize;
  const size = wanted === null ? encoder.imageSize : [wanted, wanted] as const;
  if (Math.min(...size) < 32) throw new ModelConfigError(`imageSize is ${Math.min(...size)}; a ResNet takes images from 32 pixels`);
  return size;
}
