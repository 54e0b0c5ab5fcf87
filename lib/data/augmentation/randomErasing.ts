/** Random erasing (Zhong et al., arXiv 1708.04896) as timm does it: draws of a rectangle, and what it is filled with. */
import { roundHalfEven } from "../decoding/rounding.js";
import { DataOptionError } from "../errors.js";
import type { RandomKey, RandomStream } from "../random.js";
import type { Box } from "./augmentation.js";

/** What the rectangle gets, as values after normalisation: zeros, a normal one for each channel, or a normal one for each value. */
export type ErasingMode = "const" | "rand" | "pixel";

/** How often and how much of a view is erased. */
export interface RandomErasing {
  probability: number;
  mode: ErasingMode;
  /** Smallest and largest share of the view's area. */
  area: readonly [number, number];
  /** Smallest and largest height over width. */
  ratio: readonly [number, number];
}

/** What timm erases where nothing else is said; DeiT erases a quarter of the images. */
export const usualErasing: RandomErasing = { probability: 0.25, mode: "pixel", area: [0.02, 1 / 3], ratio: [0.3, 1 / 0.3] };

/**
 * A rectangle, drawn before the view's size is known: for each of ten tries an area as a share of the view's, a ratio (height / width), and
 * two numbers from 0 to below 1 that place it, top and left. `fitErasing` makes a box of it.
 */
export type ErasingDraw = readonly number[];

/** A rectangle of a view that is overwritten after normalisation. */
export interface Erasing {
  box: Box | ErasingDraw;
  mode: ErasingMode;
  /** Of the noise: the same key gives the same values. */
  noise: RandomKey;
}

const modes: readonly string[] = ["const", "rand", "pixel"] satisfies ErasingMode[];
const attempts = 10;

/** @throws {DataOptionError} for a probability, range or mode that makes no sense. */
export function checkErasing(erasing: RandomErasing): void {
  const require = (holds: boolean, name: keyof RandomErasing, limits: string): void => {
    if (!holds) throw new DataOptionError(`augmentation: erasing.${name} is ${JSON.stringify(erasing[name])}; give ${limits}`);
  };
  const { probability, mode, area, ratio } = erasing;
  require(probability >= 0 && probability <= 1, "probability", "a probability from 0 to 1");
  require(modes.includes(mode), "mode", modes.join(" or "));
  require(area[0] > 0 && area[0] <= area[1] && area[1] <= 1, "area", "two fractions above 0, up to 1, the smaller first");
  require(ratio[0] > 0 && ratio[0] <= ratio[1] && ratio[1] < Infinity, "ratio", "two ratios above 0, the smaller first");
}

/** @param key of the stream `random`, which the noise shares */
export function drawErasing({ probability, mode, area, ratio }: RandomErasing, random: RandomStream, key: RandomKey): Erasing | null {
  if (!random.chance(probability)) return null;
  const box: number[] = [];
  const [low, high] = [Math.log(ratio[0]), Math.log(ratio[1])];
  for (let k = 0; k < attempts; k++) {
    box.push(random.uniform(area[0], area[1]), Math.exp(random.uniform(low, high)), random.uniform(), random.uniform());
  }
  return { box, mode, noise: key };
}

/** The first of the tries that is smaller than the view in both directions, or null. */
export function fitErasing(draw: Box | ErasingDraw, height: number, width: number): Box | null {
  if (!isDraw(draw)) return draw;
  for (let k = 0; k + 4 <= draw.length; k += 4) {
    const area = draw[k]! * height * width, ratio = draw[k + 1]!;
    const h = roundHalfEven(Math.sqrt(area * ratio)), w = roundHalfEven(Math.sqrt(area / ratio));
    if (h >= height || w >= width) continue;
    return { top: Math.floor(draw[k + 2]! * (height - h + 1)), left: Math.floor(draw[k + 3]! * (width - w + 1)), height: h, width: w };
  }
  return null;
}

function isDraw(box: Box | ErasingDraw): box is ErasingDraw {
  return Array.isArray(box);
}

/** Numbers per rendering, in the order in which native/imageRequest.cc reads them. */
export const numbersPerErasing = 10;

/**
 * Writes what is erased of a view for the native kernels.
 *
 * @throws {DataOptionError} for a box that is not inside the view.
 */
export function writeErasing(to: Float64Array, at: number, { box, mode, noise }: Erasing, height: number, width: number): void {
  const fitted = fitErasing(box, height, width);
  if (!fitted || fitted.height === 0 || fitted.width === 0) return;
  const inside = fitted.top >= 0 && fitted.left >= 0 && fitted.top + fitted.height <= height && fitted.left + fitted.width <= width;
  if (!inside) throw new DataOptionError(`the box ${JSON.stringify(fitted)} to erase is not inside the view of ${width} x ${height} pixels`);
  to[at] = 1 + modes.indexOf(mode);
  to[at + 1] = fitted.top;
  to[at + 2] = fitted.left;
  to[at + 3] = fitted.height;
  to[at + 4] = fitted.width;
  to[at + 5] = noise.seed >>> 0;
  to[at + 6] = Math.floor(noise.seed / 2 ** 32);
  to[at + 7] = noise.stream;
  to[at + 8] = noise.index;
  to[at + 9] = noise.epoch;
}
