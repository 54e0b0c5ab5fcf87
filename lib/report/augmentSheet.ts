import sharp from "sharp";
import type { Box, RecipeChanges, ViewParameters, ViewRecipe } from "../data/augmentation/augmentation.js";
import { drawView, viewRecipes } from "../data/augmentation/augmentation.js";
import type { DecodedImage } from "../data/decoding/decodedImage.js";
import { epochSamples, type EpochSamples, type Sample } from "../data/loading/epochSamples.js";
import { DataOptionError, type BadImage } from "../data/errors.js";
import type { ImageInput } from "../data/imageInput.js";
import { ImagePool, type RenderOutcome, type RenderRequest } from "../data/imagePool.js";
import { isStream, labelOf, type ImageSource, type ImageStream } from "../data/imageSource.js";
import { givenImage } from "../data/decoding/readImage.js";
import { empty, keep, type Tensor } from "../torch/index.js";

/** What is drawn; the defaults are those of pre-training, and seed and epoch 0. */
export interface AugmentSheetOptions {
  /** How many images are shown. Default 12. */
  rows?: number;
  seed?: number;
  epoch?: number;
  /** Side of the views in pixels. Default 224. */
  imageSize?: number;
  /** Smallest area of a crop as a fraction of the image's. Default 0.08. */
  cropMin?: number;
  /** Changes to the recipe. */
  augmentation?: RecipeChanges;
  /** Turn images as their EXIF orientation says. Default false. */
  exif?: boolean;
}

/** One view: what was drawn for it, and the pixels that the network gets, before normalisation. */
export interface SheetView extends ViewParameters {
  pixels: DecodedImage;
}

/** An image and its two views. */
export interface SheetRow {
  /** Position in the source, or the number of a stream's image: the random numbers are keyed by it. */
  index: number;
  name: string;
  /** Name of its class; null where there is none, and in a stream. */
  label: string | null;
  width: number;
  height: number;
  /** The image, made smaller to be shown. */
  original: DecodedImage;
  views: [SheetView, SheetView];
}

/** Originals, views and parameters, as training would have them. */
export interface AugmentSheet {
  /** Images of the whole source. */
  total: number;
  seed: number;
  epoch: number;
  imageSize: number;
  recipes: [ViewRecipe, ViewRecipe];
  /** In the order of the epoch, without those that cannot be read. */
  rows: SheetRow[];
  bad: BadImage[];
}

/** No image for a sheet could be read. */
export class AugmentSheetError extends Error {
  override readonly name = "AugmentSheetError";
}

/** Longer side of an original, in pixels: sharp on a screen of twice the density. */
const shownSide = 640;
/** Unreadable images after which the sheet is made of what there is. */
const mostBad = 100;
/** Images decoded as a whole at once; one can have half a gigabyte of pixels. */
const decodedAtOnce = 4;

/**
 * The first images of an epoch with what training draws for them: the same images, parameters and pixels as the beginning of
 * `TwoViewLoader.epoch(epoch)` with this seed, on one rank.
 *
 * @throws {AugmentSheetError} when no image can be read.
 * @throws {DataOptionError} for an option outside its range.
 */
export async function drawAugmentSheet(source: ImageSource | ImageStream, options: AugmentSheetOptions = {}): Promise<AugmentSheet> {
  const { rows = 12, seed = 0, epoch = 0, imageSize = 224, exif = false } = options;
  const whole = (name: string, value: number, least: number): void => {
    if (!Number.isSafeInteger(value) || value < least) throw new DataOptionError(`${name} is ${value}; give a whole number from ${least}`);
  };
  whole("rows", rows, 1);
  whole("seed", seed, 0);
  whole("epoch", epoch, 0);
  whole("imageSize", imageSize, 1);
  const recipes = viewRecipes(options.cropMin, options.augmentation);
  const sheet: AugmentSheet = { total: source.length, seed, epoch, imageSize, recipes, rows: [], bad: [] };
  if (source.length === 0) throw new AugmentSheetError("the data set has no images; check the path");
  const samples = epochSamples(source, { seed, epoch, rank: 0, worldSize: 1 });
  const seen = new Set<number>();
  const pool = new ImagePool();
  try {
    while (sheet.rows.length < rows && sheet.bad.length < mostBad) {
      const batch = await takeNew(samples, rows - sheet.rows.length, seen);
      if (batch.length === 0) break;
      await addRows(sheet, batch, source, pool, exif);
    }
  } finally {
    await samples.return();
    pool.close();
  }
  if (sheet.rows.length > 0) return sheet;
  const first = sheet.bad[0];
  const example = first === undefined ? "the data set gives none" : `${first.name}: ${first.reason}`;
  throw new AugmentSheetError(`none of the first ${sheet.bad.length} images can be read (${example}); mend them or check the path`);
}

/** The next images; none that was seen before, as an epoch that ends begins again. */
async function takeNew(samples: EpochSamples, count: number, seen: Set<number>): Promise<Sample[]> {
  const taken: Sample[] = [];
  while (taken.length < count) {
    const { value, done } = await samples.next();
    if (done === true || seen.has(value.id)) break;
    seen.add(value.id);
    taken.push(value);
  }
  return taken;
}

interface Readable {
  sample: Sample;
  input: ImageInput;
  original: DecodedImage;
}

/** Reads a batch and renders its views; each image becomes a row, or one of the bad ones. */
async function addRows(
  sheet: AugmentSheet, batch: readonly Sample[], source: ImageSource | ImageStream, pool: ImagePool, exif: boolean,
): Promise<void> {
  const { imageSize, recipes, seed, epoch } = sheet;
  const read = async (sample: Sample): Promise<Readable | BadImage> => {
    try {
      const input = await givenImage(() => sample.image());
      return { sample, input, original: await toShow(await pool.decode(input, { exif })) };
    } catch (error) {
      return { index: sample.id, name: sample.name, reason: error instanceof Error ? error.message : String(error) };
    }
  };
  const readable: Readable[] = [];
  for (let i = 0; i < batch.length; i += decodedAtOnce) {
    for (const result of await Promise.all(batch.slice(i, i + decodedAtOnce).map(read))) {
      if ("reason" in result) sheet.bad.push(result);
      else readable.push(result);
    }
  }
  if (readable.length === 0) return;

  const draws = readable.map(({ sample }) => recipes.map((recipe, view) => drawView(recipe, { seed, epoch, index: sample.id, view })));
  const requests: RenderRequest[] = readable.map(({ input }, row) => ({
    image: input,
    // Bytes cannot show what is erased: that is done to normalised values.
    renderings: draws[row]!.map((draw, view) => ({ output: view, row, ...draw, erase: null })),
  }));
  const outputs = recipes.map(() => keep(empty([readable.length, 3, imageSize, imageSize], { dtype: "uint8" })));
  try {
    const outcomes = await pool.render(requests, outputs, { exif });
    const planes = outputs.map((output) => output.data() as Uint8Array);
    outcomes.forEach((outcome: RenderOutcome, row) => {
      const { sample: { id: index, name }, original } = readable[row]!;
      if ("reason" in outcome) {
        sheet.bad.push({ index, name, reason: outcome.reason }); // it vanished after it was decoded
        return;
      }
      const view = (number: 0 | 1): SheetView => ({
        ...draws[row]![number]!,
        crop: outcome.crops[number] as Box,
        pixels: pixelsOf(planes[number]!, row, imageSize),
      });
      const { width, height } = outcome;
      const label = isStream(source) ? null : labelOf(source, index);
      const className = label === null ? null : (source.classes?.[label] ?? String(label));
      sheet.rows.push({ index, name, label: className, width, height, original, views: [view(0), view(1)] });
    });
  } finally {
    outputs.forEach((output: Tensor) => output.dispose());
  }
}

async function toShow({ data, width, height }: DecodedImage): Promise<DecodedImage> {
  const { data: pixels, info } = await sharp(data, { raw: { width, height, channels: 3 }, limitInputPixels: false })
    .resize({ width: shownSide, height: shownSide, fit: "inside", withoutEnlargement: true })
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { data: pixels, width: info.width, height: info.height };
}

/** Row `row` of planes [N, 3, side, side] as interleaved pixels. */
function pixelsOf(planes: Uint8Array, row: number, side: number): DecodedImage {
  const area = side * side;
  const start = 3 * area * row;
  const data = new Uint8Array(3 * area);
  for (let i = 0; i < area; i++) {
    for (let channel = 0; channel < 3; channel++) data[3 * i + channel] = planes[start + channel * area + i]!;
  }
  return { data, width: side, height: side };
}
