import type { PixelParameters } from "../../lib/data/augmentation/devicePlan.js";
import type { JitterParameters, RandomStream } from "../../lib/data/index.js";

/** What leaves every pixel as it is. */
export const nothing: PixelParameters = { jitter: null, grayscale: false, blurSigma: null, solarize: null, flip: false };
/** A jitter that changes nothing. */
export const neutral: JitterParameters = { order: [], brightness: 1, contrast: 1, saturation: 1, hue: 0 };

/** Parameters with the recipe's strengths, any operation with any other and each of them frequent. */
export function drawPixelParameters(random: RandomStream, largestSigma: number): PixelParameters {
  const factor = (strength: number): number => random.uniform(1 - strength, 1 + strength);
  return {
    jitter: random.chance(0.8)
      ? { order: [...random.permutation(4)], brightness: factor(0.4), contrast: factor(0.4), saturation: factor(0.2), hue: factor(0.1) - 1 }
      : null,
    grayscale: random.chance(0.2),
    blurSigma: random.chance(0.8) ? random.uniform(0.1, largestSigma) : null,
    solarize: random.chance(0.2) ? 128 : null,
    flip: random.chance(0.5),
  };
}
