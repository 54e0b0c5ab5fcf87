/**
 * MoCo v3's two augmentation pipelines (section 4.1 of the paper; they follow BYOL, arXiv 2006.07733, appendix B) as draws of
 * parameters. The pixels are the native kernels' business.
 */
import { native } from "../../native.js";
import { DataOptionError } from "../errors.js";
import { RandomStream, type RandomKey } from "../random.js";
import { requireInterpolation, type Interpolation } from "./interpolation.js";
import type { ImageOperation } from "./operations.js";
import { checkRandAugment, drawRandAugment, type RandAugment } from "./randAugment.js";
import { checkErasing, drawErasing, type Erasing, type RandomErasing } from "./randomErasing.js";

/** Probabilities and strengths of one view. */
export interface ViewRecipe {
  /** Area of the crop as a fraction of the image's. */
  cropScale: readonly [number, number];
  /** Width over height of the crop. */
  cropRatio: readonly [number, number];
  jitterProbability: number;
  /** The factor is uniform in 1 ± this, and at least 0. 0 leaves the operation out. */
  brightness: number;
  contrast: number;
  saturation: number;
  /** The hue turns by a fraction of a full turn that is uniform in ± this, at most 0.5. 0 leaves the operation out. */
  hue: number;
  grayscaleProbability: number;
  blurProbability: number;
  /** Standard deviation of the blur in pixels. */
  blurSigma: readonly [number, number];
  solarizeProbability: number;
  /** Values from here on are inverted. */
  solarizeThreshold: number;
  flipProbability: number;
  /** How the crop is resized; `"random"` chooses one for each view. Default bilinear, as upstream. */
  interpolation?: Interpolation | "random";
  /** Operations that follow crop and flip, before all others. Default none. */
  randAugment?: RandAugment | null;
  /** A rectangle that is overwritten after normalisation. Default none. */
  erasing?: RandomErasing | null;
}

/** Changes to the recipe of both views, or of each. */
export type RecipeChanges = Partial<ViewRecipe> | readonly [Partial<ViewRecipe>, Partial<ViewRecipe>];

/** A rectangle in pixels. */
export interface Box {
  top: number;
  left: number;
  height: number;
  width: number;
}

/** The operations of colour jitter, under the numbers that the native kernels know. */
export const jitterOperations = { brightness: 0, contrast: 1, saturation: 2, hue: 3 } as const;

/** Strengths of the colour changes that were drawn for one view. */
export interface JitterParameters {
  /** Operations in the order in which they are applied. */
  order: readonly number[];
  brightness: number;
  contrast: number;
  saturation: number;
  /** Fraction of a turn. */
  hue: number;
}

/**
 * A random crop, drawn before the image's size is known: smallest and largest ratio, ten areas as fractions of the image's, ten ratios,
 * ten places as pairs of numbers from 0 to below 1. `fitView` makes a box of it.
 */
export type CropDraw = readonly number[];

/**
 * What happens to one view of one image, in this order; but where there are `operations`, the flip comes before them, as in timm. For all
 * else it makes no difference when the view is flipped.
 */
export interface ViewDraw {
  crop: CropDraw;
  /** Of the crop. Default bilinear. */
  interpolation?: Interpolation;
  /** Those of RandAugment, one after the other. */
  operations?: readonly ImageOperation[];
  jitter: JitterParameters | null;
  grayscale: boolean;
  /** Standard deviation in pixels, or null for no blur. */
  blurSigma: number | null;
  /** Threshold, or null. */
  solarize: number | null;
  flip: boolean;
  /** What is overwritten after normalisation. */
  erase?: Erasing | null;
}

/** The same for an image whose size is known. */
export interface ViewParameters extends Omit<ViewDraw, "crop"> {
  crop: Box;
}

/**
 * The recipes of the two views. They differ in blur and solarize only: the first is always blurred, the second rarely, and only the
 * second is solarized.
 *
 * @param cropMin smallest area of a crop as a fraction of the image's; the paper uses 0.08 for ViT and 0.2 for ResNet-50
 * @throws {DataOptionError} for a probability, range or strength that makes no sense.
 */
export function viewRecipes(cropMin = 0.08, changes: RecipeChanges = {}): [ViewRecipe, ViewRecipe] {
  const shared: ViewRecipe = {
    cropScale: [cropMin, 1], cropRatio: [3 / 4, 4 / 3],
    jitterProbability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.2, hue: 0.1,
    grayscaleProbability: 0.2,
    blurProbability: 1, blurSigma: [0.1, 2],
    solarizeProbability: 0, solarizeThreshold: 128,
    flipProbability: 0.5,
  };
  const [first, second] = isPair(changes) ? changes : [changes, changes];
  const recipes: [ViewRecipe, ViewRecipe] = [
    { ...shared, ...first },
    { ...shared, blurProbability: 0.1, solarizeProbability: 0.2, ...second },
  ];
  recipes.forEach(checkRecipe);
  return recipes;
}

/**
 * What supervised training does to an image: a random crop, resized, and flipped half of the time (torchvision's `RandomResizedCrop` and
 * `RandomHorizontalFlip`, as upstream's linear probe).
 *
 * @throws {DataOptionError} for a range that makes no sense.
 */
export function cropAndFlip(cropMin = 0.08): ViewRecipe {
  const recipe: ViewRecipe = {
    ...viewRecipes(cropMin)[0], jitterProbability: 0, grayscaleProbability: 0, blurProbability: 0, solarizeProbability: 0,
  };
  checkRecipe(recipe);
  return recipe;
}

function isPair(changes: RecipeChanges): changes is readonly [Partial<ViewRecipe>, Partial<ViewRecipe>] {
  return Array.isArray(changes);
}

/** @throws {DataOptionError} for a probability, range or strength that makes no sense. */
export function checkRecipe(recipe: ViewRecipe): void {
  const require = (holds: boolean, name: keyof ViewRecipe, limits: string): void => {
    if (!holds) throw new DataOptionError(`augmentation: ${name} is ${JSON.stringify(recipe[name])}; give ${limits}`);
  };
  for (const name of ["jitterProbability", "grayscaleProbability", "blurProbability", "solarizeProbability", "flipProbability"] as const) {
    require(recipe[name] >= 0 && recipe[name] <= 1, name, "a probability from 0 to 1");
  }
  for (const name of ["brightness", "contrast", "saturation"] as const) require(recipe[name] >= 0, name, "0 or more");
  require(recipe.hue >= 0 && recipe.hue <= 0.5, "hue", "0 to 0.5");
  const [smallest, largest] = recipe.cropScale;
  require(smallest > 0 && smallest <= largest && largest <= 1, "cropScale", "two fractions above 0, up to 1, the smaller first");
  const [narrowest, widest] = recipe.cropRatio;
  require(narrowest > 0 && narrowest <= widest, "cropRatio", "two ratios above 0, the smaller first");
  const [sharpest, softest] = recipe.blurSigma;
  require(sharpest >= 0 && sharpest <= softest && softest <= 1000, "blurSigma", "two numbers from 0 to 1000, the smaller first");
  const threshold = recipe.solarizeThreshold;
  require(Number.isInteger(threshold) && threshold >= 0 && threshold <= 256, "solarizeThreshold", "a whole number from 0 to 256");
  if (recipe.interpolation !== undefined) requireInterpolation(recipe.interpolation, ["random"]);
  if (recipe.randAugment) checkRandAugment(recipe.randAugment);
  if (recipe.erasing) checkErasing(recipe.erasing);
}

/** torchvision's `RandomResizedCrop` tries so many crops, then takes the largest centred one of an allowed shape. */
const attempts = 10;

function drawCrop(recipe: ViewRecipe, random: RandomStream): CropDraw {
  const draw = new Array<number>(2 + 4 * attempts).fill(0); // not a typed array, which costs more than its 42 numbers
  const [smallest, largest] = recipe.cropScale;
  const [narrowest, widest] = recipe.cropRatio;
  const logNarrowest = Math.log(narrowest), logWidest = Math.log(widest);
  draw[0] = narrowest;
  draw[1] = widest;
  const shapes = 2 + attempts, places = 2 + 2 * attempts;
  // Attempt k uses numbers 2k and 2k + 1 for its shape. If it fits, the next two place it; if not, they are the next one's shape.
  for (let k = 0; k <= attempts; k++) {
    const first = random.uniform(), second = random.uniform();
    if (k < attempts) {
      draw[2 + k] = smallest + first * (largest - smallest);
      draw[shapes + k] = Math.exp(logNarrowest + second * (logWidest - logNarrowest));
    }
    if (k > 0) {
      draw[places + 2 * k - 2] = first;
      draw[places + 2 * k - 1] = second;
    }
  }
  return draw;
}

function drawJitter(recipe: ViewRecipe, random: RandomStream): JitterParameters {
  const factor = (strength: number): number => random.uniform(Math.max(0, 1 - strength), 1 + strength);
  const drawn = {
    brightness: factor(recipe.brightness),
    contrast: factor(recipe.contrast),
    saturation: factor(recipe.saturation),
    hue: random.uniform(-recipe.hue, recipe.hue),
  };
  const names = Object.keys(jitterOperations) as (keyof typeof jitterOperations)[];
  const order = [...random.permutation(4)].filter((operation) => recipe[names[operation]!] > 0);
  return { order, ...drawn };
}

/** Which view of which sample in which epoch of a run with which seed. */
export interface ViewKey {
  seed: number;
  epoch: number;
  index: number;
  view: number;
}

/**
 * Draws what happens to one view of one image. The same key and recipe give the same parameters, wherever and whenever they are drawn;
 * changing one operation's recipe leaves the draws of the others as they were.
 */
export function drawView(recipe: ViewRecipe, key: ViewKey): ViewDraw {
  const { seed, epoch, index, view } = key;
  // Stream 0 belongs to the sampler.
  const keyOf = (number: number): RandomKey => ({ seed, epoch, index, stream: 1 + 8 * view + number });
  const purpose = (number: number): RandomStream => new RandomStream(keyOf(number));
  const crop = purpose(0);
  const jitter = purpose(1);
  const blur = purpose(3);
  const draw: ViewDraw = {
    crop: drawCrop(recipe, crop),
    jitter: jitter.chance(recipe.jitterProbability) ? drawJitter(recipe, jitter) : null,
    grayscale: purpose(2).chance(recipe.grayscaleProbability),
    blurSigma: blur.chance(recipe.blurProbability) ? blur.uniform(recipe.blurSigma[0], recipe.blurSigma[1]) : null,
    solarize: purpose(4).chance(recipe.solarizeProbability) ? recipe.solarizeThreshold : null,
    flip: purpose(5).chance(recipe.flipProbability),
  };
  const { interpolation, randAugment, erasing } = recipe;
  if (interpolation) draw.interpolation = interpolation !== "random" ? interpolation : crop.chance(0.5) ? "bicubic" : "bilinear";
  if (randAugment) draw.operations = drawRandAugment(randAugment, interpolation ?? "bilinear", purpose(6));
  if (erasing) draw.erase = drawErasing(erasing, purpose(7), keyOf(7));
  return draw;
}

/** The draw for an image of this size in pixels: torchvision's `RandomResizedCrop` decides where the crop lies. */
export function fitView(draw: ViewDraw, width: number, height: number): ViewParameters {
  const [top, left, cropHeight, cropWidth] = native.fitCrop(Float64Array.from(draw.crop), width, height);
  return { ...draw, crop: { top, left, height: cropHeight, width: cropWidth } };
}
