/** What RandAugment may do to an image, and how the native kernels are told. */
import { DataOptionError } from "../errors.js";
import type { Interpolation } from "./interpolation.js";

/**
 * | name | argument |
 * | --- | --- |
 * | `autoContrast`, `equalize`, `invert` | none |
 * | `posterize` | bits that are kept, 0 to 8 |
 * | `solarize` | values from here on are inverted, 0 to 256 |
 * | `solarizeAdd` | is added to values below 128, 0 to 255 |
 * | `color`, `contrast`, `brightness`, `sharpness` | factor; 1 changes nothing (PIL's `ImageEnhance`) |
 * | `rotate` | degrees, counter-clockwise |
 * | `shearX`, `shearY` | pixels per pixel |
 * | `translateX`, `translateY` | share of the width or height; the picture moves to the left or up |
 */
export type OperationName =
  | "autoContrast" | "equalize" | "invert" | "rotate" | "posterize" | "solarize" | "solarizeAdd" | "color" | "contrast" | "brightness"
  | "sharpness" | "shearX" | "shearY" | "translateX" | "translateY";

/** One operation on a picture's pixels, with its strength. */
export interface ImageOperation {
  name: OperationName;
  argument: number;
  /** Of geometric operations. Default bilinear. */
  interpolation?: Interpolation;
  /** Red, green and blue beyond the image's edge. Default black. */
  fill?: readonly [number, number, number];
}

/** What a pixel at (x, y) shows: (a x + b y + c, d x + e y + f), in pixels; their centres are at halves. */
type Affine = readonly [a: number, b: number, c: number, d: number, e: number, f: number];

interface Size {
  height: number;
  width: number;
}

/** Kinds of operations, as native/image/operation.h numbers them. */
const kinds = {
  autoContrast: 0, equalize: 1, invert: 2, posterize: 3, solarize: 4, solarizeAdd: 5, color: 6, contrast: 7, brightness: 8, sharpness: 9,
} as const;
const affineKind = 10;

const affine: Partial<Record<OperationName, (argument: number, size: Size) => Affine>> = {
  rotate: rotation,
  shearX: (factor) => [1, factor, 0, 0, 1, 0],
  shearY: (factor) => [1, 0, 0, factor, 1, 0],
  translateX: (share, { width }) => [1, 0, share * width, 0, 1, 0],
  translateY: (share, { height }) => [1, 0, 0, 0, 1, share * height],
};

/** PIL's `rotate` about the centre, sine and cosine rounded to 15 decimals as there. */
function rotation(degrees: number, { height, width }: Size): Affine {
  const turned = degrees % 360;
  const angle = -(turned < 0 ? turned + 360 : turned) * (Math.PI / 180);
  const rounded = (value: number): number => Number(value.toFixed(15));
  const a = rounded(Math.cos(angle)), b = rounded(Math.sin(angle)), d = rounded(-Math.sin(angle)), e = rounded(Math.cos(angle));
  const right = width / 2, down = height / 2;
  return [a, b, a * -right + b * -down + right, d, e, d * -right + e * -down + down];
}

/** Numbers per operation, in the order in which native/imageRequest.cc reads them. */
export const numbersPerOperation = 9;

/**
 * Writes an operation for the native kernels.
 *
 * @param size of the view, in pixels
 * @throws {DataOptionError} for an argument that makes no sense.
 */
export function writeOperation(to: number[], { name, argument, interpolation, fill = [0, 0, 0] }: ImageOperation, size: Size): void {
  const matrixOf = affine[name];
  if (!matrixOf && !(name in kinds)) throw new DataOptionError(`there is no operation ${JSON.stringify(name)}; see OperationName`);
  const [lowest, highest, what] = limits[name] ?? [-1e6, 1e6, "a number"];
  const whole = what === "a whole number";
  if (!(argument >= lowest && argument <= highest) || (whole && !Number.isInteger(argument))) {
    throw new DataOptionError(`the argument of ${name} is ${argument}; give ${what} from ${lowest} to ${highest}`);
  }
  const [red, green, blue] = fill;
  const numbers = matrixOf ? matrixOf(argument, size) : [argument, 0, 0, 0, 0, 0];
  const kind = matrixOf ? affineKind : kinds[name as keyof typeof kinds];
  to.push(kind, ...numbers, interpolation === "bicubic" ? 1 : 0, (red << 16) | (green << 8) | blue);
}

const limits: Partial<Record<OperationName, readonly [lowest: number, highest: number, what: string]>> = {
  posterize: [0, 8, "a whole number"], solarize: [0, 256, "a whole number"], solarizeAdd: [0, 255, "a whole number"],
  shearX: [-100, 100, "a number"], shearY: [-100, 100, "a number"],
  translateX: [-100, 100, "a number"], translateY: [-100, 100, "a number"],
};
