/**
 * Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) of a batch with itself in reverse order, as DeiT's recipes mix (timm's `Mixup` in
 * its mode "batch": one draw for the whole batch).
 */
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import { DataOptionError } from "../errors.js";
import { RandomStream } from "../random.js";
import type { Box } from "./augmentation.js";

/** How pictures of a batch are mixed with each other: mixup and CutMix. */
export interface MixingRecipe {
  /** Both parameters of the beta distribution that mixup's share is drawn from; 0 for no mixup. DeiT: 0.8. */
  mixupAlpha: number;
  /** The same for the area that CutMix leaves; 0 for no CutMix. DeiT: 1. */
  cutmixAlpha: number;
  /** Probability that a batch is mixed at all. DeiT: 1. */
  probability: number;
  /** Probability of CutMix where both are on. DeiT: 0.5. */
  switchProbability: number;
}

/** How a batch is mixed. */
export interface Mixing {
  /** Share of its own class in an image's target; the rest is its partner's. */
  lambda: number;
  /** What CutMix replaces by the partner's pixels; null for mixup, which blends all pixels. */
  box: Box | null;
}

/** Which step of a run with which seed. */
export interface MixingKey {
  seed: number;
  epoch: number;
  /** Counted from 0 in each epoch. */
  step: number;
}

/** Far above the streams of the views and of the sampler. */
const mixingStream = 0x6d6978;

/** @throws {DataOptionError} for a parameter or probability that makes no sense. */
/**
 * Sees that a recipe of mixing can be drawn from.
 *
 * @throws DataOptionError for a value outside its range
 */
export function checkMixing(recipe: MixingRecipe): void {
  for (const name of ["mixupAlpha", "cutmixAlpha"] as const) {
    if (!(recipe[name] >= 0 && recipe[name] <= 1000)) {
      throw new DataOptionError(`mixing: ${name} is ${recipe[name]}; give a number from 0 (off) to 1000, such as 0.8`);
    }
  }
  for (const name of ["probability", "switchProbability"] as const) {
    if (!(recipe[name] >= 0 && recipe[name] <= 1)) throw new DataOptionError(`mixing: ${name} is ${recipe[name]}; give a probability from 0 to 1`);
  }
}

/** Whether the recipe ever mixes. */
export function mixes({ mixupAlpha, cutmixAlpha, probability }: MixingRecipe): boolean {
  return probability > 0 && (mixupAlpha > 0 || cutmixAlpha > 0);
}

/**
 * Draws how a step's batch is mixed, or null where it is not. The same key and recipe give the same, whatever was drawn before.
 *
 * CutMix's box has the aspect of the image and the area 1 - share; where it hangs over the edge it is cut off, and `lambda` becomes what is
 * left of the image in truth.
 *
 * @param imageSize height and width in pixels
 */
export function drawMixing(recipe: MixingRecipe, { seed, epoch, step }: MixingKey, [height, width]: readonly [number, number]): Mixing | null {
  if (!mixes(recipe)) return null;
  const { mixupAlpha, cutmixAlpha, probability, switchProbability } = recipe;
  const random = new RandomStream({ seed, epoch, index: step, stream: mixingStream });
  if (!random.chance(probability)) return null;
  const cuts = random.chance(mixupAlpha === 0 ? 1 : cutmixAlpha === 0 ? 0 : switchProbability);
  const [row, column] = [random.integer(height), random.integer(width)];
  const share = drawBeta(cuts ? cutmixAlpha : mixupAlpha, random);
  return cuts ? cutMixing(share, row, column, [height, width]) : { lambda: share, box: null };
}

/** CutMix with a box that leaves `share` of the image's area and is centred at a pixel. */
export function cutMixing(share: number, row: number, column: number, [height, width]: readonly [number, number]): Mixing {
  const ratio = Math.sqrt(1 - share);
  const [top, bottom] = spanAround(row, Math.floor(height * ratio), height);
  const [left, right] = spanAround(column, Math.floor(width * ratio), width);
  const box = { top, left, height: bottom - top, width: right - left };
  return { lambda: 1 - (box.height * box.width) / (height * width), box };
}

/** `length` places around a centre, those outside [0, size) cut off. */
function spanAround(centre: number, length: number, size: number): [number, number] {
  return [Math.max(0, centre - Math.floor(length / 2)), Math.min(size, centre + Math.ceil(length / 2))];
}

/**
 * Mixes a batch with itself in reverse order: a new tensor, for images [N, C, H, W]. The one in the middle of an odd number is mixed with
 * itself, and so stays.
 */
export function mixImages(images: Tensor, { lambda, box }: Mixing): Tensor {
  return torch.noGrad(() =>
    torch.scope(() => {
      if (box === null) return images.mul(lambda).add_(images.flip([0]).mul_(1 - lambda));
      const within = (tensor: Tensor): Tensor => tensor.narrow(2, box.top, box.height).narrow(3, box.left, box.width);
      const mixed = images.clone();
      within(mixed).copy_(within(images).flip([0]));
      return mixed;
    }),
  );
}

/** A draw from the beta distribution with both parameters `alpha`: X / (X + Y) of two gamma draws. */
function drawBeta(alpha: number, random: RandomStream): number {
  const [x, y] = [drawGamma(alpha, random), drawGamma(alpha, random)];
  return x + y > 0 ? x / (x + y) : 0.5; // both can underflow for a tiny alpha
}

/** A draw from the gamma distribution (Marsaglia and Tsang, "A simple method for generating gamma variables", 2000). */
function drawGamma(shape: number, random: RandomStream): number {
  if (shape < 1) return drawGamma(shape + 1, random) * random.uniform() ** (1 / shape);
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const normal = drawNormal(random);
    const v = (1 + c * normal) ** 3;
    if (v > 0 && Math.log(1 - random.uniform()) < 0.5 * normal ** 2 + d * (1 - v + Math.log(v))) return d * v;
  }
}

/** A draw from the standard normal distribution (Box and Muller). */
function drawNormal(random: RandomStream): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random.uniform()));
  return radius * Math.cos(2 * Math.PI * random.uniform());
}
