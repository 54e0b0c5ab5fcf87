/**
 * RandAugment (Cubuk et al., arXiv 1909.13719) as draws of operations: the fifteen operations, magnitudes and policy strings of timm,
 * which DeiT's recipes use. The pixels are the native kernels' business.
 */
import { DataOptionError } from "../errors.js";
import type { RandomStream } from "../random.js";
import type { Interpolation } from "./interpolation.js";
import type { ImageOperation, OperationName } from "./operations.js";

/** What a policy such as `rand-m9-mstd0.5-inc1` says. */
export interface RandAugment {
  /** How strong the operations are, on a scale of ten (`m`). */
  magnitude: number;
  /** Standard deviation of each operation's own magnitude (`mstd`), or `"uniform"`: from 0 to `magnitude`. 0: no deviation. */
  magnitudeStd: number | "uniform";
  /** Where magnitudes are cut off (`mmax`). */
  magnitudeMax: number;
  /** Operations drawn for an image (`n`), one after the other and with replacement. */
  layers: number;
  /** With which each of them is done (`p`). */
  probability: number;
  /** Whether all operations become stronger with the magnitude (`inc`); else posterize, solarize and the four factors do not. */
  increasing: boolean;
  /** Red, green and blue from 0 to 255, where a geometric operation shows what is beyond the image. */
  fill: readonly [number, number, number];
}

/** ImageNet's mean colour. */
const meanColour = [124, 116, 104] as const;

const known = "give one such as rand-m9-mstd0.5-inc1, or none";

/**
 * Reads a policy as timm's `--aa` takes it: `rand`, then any of `mN` (magnitude, default 10), `nN` (layers, 2), `pX` (probability, 0.5),
 * `mstdX` (deviation of the magnitude, 0; above 100: uniform), `mmaxN` (where it is cut off, 10) and `inc1` (all operations become
 * stronger with it), joined by dashes.
 *
 * @returns null for `none` and for an empty string
 * @throws {DataOptionError} for another kind of policy (AutoAugment, AugMix, 3-Augment), and for a part that is unknown or out of range.
 * @example parseRandAugment("rand-m9-mstd0.5-inc1")
 */
export function parseRandAugment(text: string): RandAugment | null {
  if (text === "" || text === "none") return null;
  const [kind, ...parts] = text.split("-");
  if (kind !== "rand") throw new DataOptionError(`augmentation policy ${JSON.stringify(text)}: only RandAugment is known; ${known}`);
  const policy: RandAugment = {
    magnitude: 10, magnitudeStd: 0, magnitudeMax: 10, layers: 2, probability: 0.5, increasing: false, fill: meanColour,
  };
  for (const part of parts) {
    const refuse = (limits: string): never => {
      throw new DataOptionError(`augmentation policy ${JSON.stringify(text)}: ${JSON.stringify(part)} is ${limits}; ${known}`);
    };
    const [, name, digits] = /^([a-z]+)(\d+\.?\d*)$/.exec(part) ?? [];
    const value = Number(digits);
    const whole = (low: number, high: number): number =>
      Number.isInteger(value) && value >= low && value <= high ? value : refuse(`no whole number from ${low} to ${high}`);
    switch (name) {
      case "m": policy.magnitude = whole(0, 1000); break;
      case "n": policy.layers = whole(1, mostLayers); break;
      case "mmax": policy.magnitudeMax = whole(1, 1000); break;
      case "inc": policy.increasing = whole(0, 1) === 1; break;
      case "mstd": policy.magnitudeStd = value > 100 ? "uniform" : value; break;
      case "p": policy.probability = value <= 1 ? value : refuse("no probability from 0 to 1"); break;
      default: refuse("none of m, n, p, mstd, mmax and inc with a number");
    }
  }
  return policy;
}

const mostLayers = 64;

/** @throws {DataOptionError} for a value that makes no sense. */
export function checkRandAugment(policy: RandAugment): void {
  const require = (holds: boolean, name: keyof RandAugment, limits: string): void => {
    if (!holds) throw new DataOptionError(`augmentation: randAugment.${name} is ${JSON.stringify(policy[name])}; give ${limits}`);
  };
  const { magnitude, magnitudeStd, magnitudeMax, layers, probability, fill } = policy;
  require(magnitude >= 0 && magnitude <= 1000, "magnitude", "0 to 1000");
  require(magnitudeStd === "uniform" || (magnitudeStd >= 0 && magnitudeStd <= 100), "magnitudeStd", "0 to 100, or \"uniform\"");
  require(magnitudeMax > 0 && magnitudeMax <= 1000, "magnitudeMax", "a number above 0, up to 1000");
  require(Number.isInteger(layers) && layers >= 1 && layers <= mostLayers, "layers", `a whole number from 1 to ${mostLayers}`);
  require(probability >= 0 && probability <= 1, "probability", "a probability from 0 to 1");
  const isByte = (value: number): boolean => Number.isInteger(value) && value >= 0 && value <= 255;
  require(fill.length === 3 && fill.every(isByte), "fill", "three whole numbers from 0 to 255");
}

/** Which way the level of a magnitude goes: `level` is the magnitude over ten, `signed` the same or its opposite. */
type Argument = (level: number, signed: number, increasing: boolean) => number;

/** 0.1 to 1.9, or away from 1 in either direction. */
const factor: Argument = (level, signed, increasing) => (increasing ? Math.max(0.1, 1 + signed * 0.9) : level * 1.8 + 0.1);

/** The operations in timm's order, and what the level means to each. */
const operations: readonly [OperationName, Argument][] = [
  ["autoContrast", () => 0],
  ["equalize", () => 0],
  ["invert", () => 0],
  ["rotate", (_, signed) => signed * 30],
  ["posterize", (level, _, increasing) => Math.max(0, increasing ? 4 - Math.trunc(level * 4) : Math.trunc(level * 4))],
  ["solarize", (level, _, increasing) => {
    const down = Math.min(256, Math.trunc(level * 256));
    return increasing ? 256 - down : down;
  }],
  ["solarizeAdd", (level) => Math.min(128, Math.trunc(level * 110))],
  ["color", factor],
  ["contrast", factor],
  ["brightness", factor],
  ["sharpness", factor],
  ["shearX", (_, signed) => signed * 0.3],
  ["shearY", (_, signed) => signed * 0.3],
  ["translateX", (_, signed) => signed * 0.45],
  ["translateY", (_, signed) => signed * 0.45],
];

const geometric: readonly OperationName[] = ["rotate", "shearX", "shearY", "translateX", "translateY"];

/**
 * The operations for one view. Each layer takes the same amount of random numbers, whatever comes of them.
 *
 * @param interpolation of the geometric operations; `"random"` draws one of the two for each
 */
export function drawRandAugment(policy: RandAugment, interpolation: Interpolation | "random", random: RandomStream): ImageOperation[] {
  const drawn: ImageOperation[] = [];
  const { magnitude, magnitudeStd, magnitudeMax, fill } = policy;
  for (let layer = 0; layer < policy.layers; layer++) {
    const [name, argumentOf] = operations[random.integer(operations.length)]!;
    const done = random.chance(policy.probability);
    const first = random.uniform(), second = random.uniform();
    const negative = random.chance(0.5);
    const bicubic = random.chance(0.5);
    if (!done) continue;
    // Box and Muller's transform.
    const normal = Math.sqrt(-2 * Math.log(1 - first)) * Math.cos(2 * Math.PI * second);
    const own = magnitudeStd === "uniform" ? first * magnitude : magnitude + normal * magnitudeStd;
    const level = Math.max(0, Math.min(own, magnitudeMax)) / 10;
    const argument = argumentOf(level, negative ? -level : level, policy.increasing);
    if (!geometric.includes(name)) drawn.push({ name, argument });
    else drawn.push({ name, argument, fill, interpolation: interpolation !== "random" ? interpolation : bicubic ? "bicubic" : "bilinear" });
  }
  return drawn;
}
