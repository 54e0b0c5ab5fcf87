import { jitterOperations, type ViewParameters, type ViewRecipe } from "./augmentation.js";
import { blurBox } from "./deviceKernels.js";
import { DataOptionError } from "../errors.js";

/** What happens to the pixels of one crop. A `ViewDraw` or `ViewParameters` is one, whose crop has been made already. */
export type PixelParameters = Omit<ViewParameters, "crop">;

export type DeviceOperation = "brightness" | "contrast" | "saturation" | "hue" | "grayscale" | "blur" | "solarize" | "flip";

/** One operation on some of a batch's images. */
export interface DeviceStep {
  operation: DeviceOperation;
  /** The images' rows. */
  rows: readonly number[];
  /** The operation's values, each for all these images. */
  values: readonly (readonly number[])[];
  /** Of `blur`. */
  radius: number;
}

const { brightness, contrast, saturation, hue } = jitterOperations;
const jitterNames = Object.keys(jitterOperations) as (keyof typeof jitterOperations)[];

/**
 * Every order of brightness, contrast and saturation is a part of the first seven, left to right, which is the shortest such sequence.
 * So every order of the four is a part of the whole, in which hue, the costliest in operators, comes once; brightness, the cheapest, most
 * often.
 */
const anyOrderOfThree = [brightness, contrast, brightness, saturation, brightness, contrast, brightness];
const anyOrder = [...anyOrderOfThree, hue, ...anyOrderOfThree];

/**
 * The steps that give each image its operations in its own order, however many images there are: at most 15 for colour jitter, one for
 * each radius of the blur's boxes, and one for each of the rest.
 *
 * @throws {DataOptionError} for an order that names an operation twice or an unknown one, or a value that is not finite.
 */
export function planSteps(parameters: readonly PixelParameters[]): DeviceStep[] {
  parameters.forEach(check);
  const steps: DeviceStep[] = [];
  const add = (operation: DeviceOperation, rows: readonly number[], values: DeviceStep["values"] = [], radius = 0): void => {
    if (rows.length > 0) steps.push({ operation, rows, values, radius });
  };
  const rowsWith = (has: (one: PixelParameters) => boolean): number[] => [...parameters.keys()].filter((row) => has(parameters[row]!));

  const done = parameters.map(() => 0);
  for (const operation of anyOrder) {
    const name = jitterNames[operation]!;
    const rows = [...parameters.keys()].filter((row) => parameters[row]!.jitter?.order[done[row]!] === operation);
    for (const row of rows) done[row]!++;
    // torchvision truncates towards zero on PIL's 8-bit hue.
    add(name, rows, [rows.map((row) => parameters[row]!.jitter![name]).map((value) => (name === "hue" ? Math.trunc(value * 255) : value))]);
  }

  add("grayscale", rowsWith(({ grayscale }) => grayscale));
  const boxes = parameters.map(({ blurSigma }) => (blurSigma === null || blurSigma === 0 ? null : blurBox(blurSigma)));
  for (const radius of new Set(boxes.flatMap((box) => (box === null ? [] : [box.radius])))) {
    const rows = [...boxes.keys()].filter((row) => boxes[row]?.radius === radius);
    const values = (["inner", "edge", "bias"] as const).map((name) => rows.map((row) => boxes[row]![name]));
    add("blur", rows, values, radius);
  }
  const solarized = rowsWith(({ solarize }) => solarize !== null && solarize < 256);
  add("solarize", solarized, [solarized.map((row) => parameters[row]!.solarize!)]);
  add("flip", rowsWith(({ flip }) => flip));
  return steps;
}

/** @throws {DataOptionError} for a recipe with what only the image threads do. */
export function requireDeviceRecipe({ randAugment, erasing }: ViewRecipe): void {
  const what = randAugment ? "RandAugment" : erasing ? "random erasing" : null;
  if (what !== null) throw new DataOptionError(`${what} is done by the image threads only; leave augmentOn (--augment gpu) away`);
}

function check({ jitter, blurSigma, solarize, operations, erase }: PixelParameters, row: number): void {
  const refuse = (what: string, value: unknown, limits: string): never => {
    throw new DataOptionError(`${what} of image ${row} is ${JSON.stringify(value) ?? String(value)}; give ${limits}`);
  };
  if (operations?.length) refuse("what RandAugment does", operations, "none: the image threads do it");
  if (erase) refuse("what is erased", erase, "null: the image threads do it");
  if (jitter) {
    const { order } = jitter;
    const known = order.every((operation) => jitterNames[operation] !== undefined) && new Set(order).size === order.length;
    if (!known) refuse("the jitter's order", order, "each of 0 to 3 at most once");
    for (const name of jitterNames) {
      if (!Number.isFinite(jitter[name])) refuse(`the jitter's ${name}`, String(jitter[name]), "a finite number");
    }
  }
  if (blurSigma !== null && !(blurSigma >= 0 && blurSigma <= 1000)) {
    refuse("the blur's sigma", String(blurSigma), "0 to 1000 pixels, or null");
  }
  if (solarize !== null && !(Number.isInteger(solarize) && solarize >= 0 && solarize <= 256)) {
    refuse("the threshold of solarize", String(solarize), "a whole number from 0 to 256, or null");
  }
}
