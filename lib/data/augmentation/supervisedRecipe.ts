import { DataOptionError } from "../errors.js";
import { checkRecipe, type ViewRecipe } from "./augmentation.js";
import type { Interpolation } from "./interpolation.js";
import { parseRandAugment } from "./randAugment.js";
import { usualErasing, type RandomErasing } from "./randomErasing.js";

/** What supervised training does to its images. */
export interface SupervisedAugmentation {
  /** Area of the crop as a fraction of the image's. Default 0.08 to 1. */
  cropScale?: readonly [number, number];
  /** Width over height of the crop. Default 3:4 to 4:3. */
  cropRatio?: readonly [number, number];
  /** Of the crop and of RandAugment's geometric operations; `"random"` chooses for each. Default bicubic. */
  interpolation?: Interpolation | "random";
  /** Probability of a flip. Default 0.5. */
  flip?: number;
  /** timm's `--aa`: a RandAugment policy, or `"none"`. Default `rand-m9-mstd0.5-inc1`. */
  randAugment?: string;
  /**
   * Strength of the colour jitter: one for brightness, contrast and saturation, or each of these and perhaps the hue's. Default 0.3. As in
   * timm there is no jitter where there is RandAugment.
   */
  colorJitter?: number | readonly number[];
  /** Random erasing: its probability, changes to DeiT's (a quarter of the images, noise in each pixel), or null for none. */
  erasing?: number | Partial<RandomErasing> | null;
}

/**
 * The recipe of supervised training, with DeiT's settings where nothing else is said: crop, flip, RandAugment or colour jitter,
 * normalisation, random erasing, in the order of timm's `transforms_imagenet_train`.
 *
 * @throws {DataOptionError} for a probability, range, strength or policy that makes no sense.
 * @example
 * const recipe = supervisedRecipe({ cropScale: [0.5, 1], erasing: { mode: "const" } });
 * const loader = new ViewLoader(await ImageFolder.open("train"), [recipe], { batchSize: 256, imageSize: 224, seed: 0 });
 */
export function supervisedRecipe(options: SupervisedAugmentation = {}): ViewRecipe {
  const { cropScale = [0.08, 1], cropRatio = [3 / 4, 4 / 3], interpolation = "bicubic", flip = 0.5, colorJitter = 0.3 } = options;
  const randAugment = parseRandAugment(options.randAugment ?? "rand-m9-mstd0.5-inc1");
  const strengths = typeof colorJitter === "number" ? [colorJitter, colorJitter, colorJitter] : colorJitter;
  if (strengths.length !== 3 && strengths.length !== 4) {
    throw new DataOptionError(`colorJitter has ${strengths.length} strengths; give one, three or four`);
  }
  const [brightness, contrast, saturation, hue = 0] = strengths as [number, number, number, number?];
  const jitters = randAugment === null && strengths.some((strength) => strength !== 0);
  const recipe: ViewRecipe = {
    cropScale, cropRatio, interpolation,
    jitterProbability: jitters ? 1 : 0, brightness, contrast, saturation, hue,
    grayscaleProbability: 0, blurProbability: 0, blurSigma: [0.1, 2], solarizeProbability: 0, solarizeThreshold: 128,
    flipProbability: flip,
    randAugment,
    erasing: erasingOf(options.erasing),
  };
  checkRecipe(recipe);
  return recipe;
}

function erasingOf(erasing: SupervisedAugmentation["erasing"] = {}): RandomErasing | null {
  if (erasing === null || erasing === 0) return null;
  return { ...usualErasing, ...(typeof erasing === "number" ? { probability: erasing } : erasing) };
}
