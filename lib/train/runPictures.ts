import { existsSync } from "node:fs";
import { join } from "node:path";
import { openImages, type ImageSource, type ImageStream, type RecipeChanges } from "../data/index.js";
import { ConvStem, PatchEmbed, VisionTransformer, type Encoder } from "../models/index.js";
import { Conv2d, type AnyModule } from "../nn/index.js";
import { drawAugmentSheet } from "../report/augmentSheet.js";
import type { Figure } from "../report/figure.js";
import { readLatestRun, RUN_LOG } from "../report/index.js";
import { attentionFigure } from "../report/pictures/attentionFigure.js";
import { filterFigure } from "../report/pictures/filterFigure.js";
import { mapFigure } from "../report/pictures/mapFigure.js";
import { neighbourFigure } from "../report/pictures/neighbourFigure.js";
import { patchColoursFigure } from "../report/pictures/patchColours.js";
import { positionFigures } from "../report/pictures/positionFigures.js";
import { tableOf } from "../report/pictures/positionTable.js";
import { viewsFigure } from "../report/pictures/viewsFigure.js";
import * as torch from "../torch/index.js";
import { FeatureExtractor } from "./features.js";
import { requireWhole, resolveDevice } from "./options.js";
import { sampleImages, spread, type ImageSample } from "./pictures/imageSample.js";
import { neighbourQueries } from "./pictures/neighbourQueries.js";
import { pictureEncoders } from "./pictures/pictureEncoders.js";

/** A run, finished or not, or a checkpoint whose network is to be seen. */
export interface PicturedRun {
  /** Folder of the run; its log, where there is one, tells the recipe and the images. */
  folder: string;
  /** Checkpoint of any kind that `moco convert` reads. Default: the folder's furthest. */
  checkpoint?: string;
  /** Images as `openImages` takes them. Default: those that the log names. */
  data?: string;
  /** Images of the map, among which neighbours are looked for. Default 400. */
  images?: number;
  /** Thumbnails on the map. Default 150. */
  maxThumbnails?: number;
  /** Of the choice of images, the random weights and the map. Default 0. */
  seed?: number;
  /** Default: the first GPU, else the CPU. */
  device?: string;
  /** Attention heads of a ViT, where the checkpoint does not tell. */
  numHeads?: number;
}

/** Images in the figures that show a few in full. */
const shownImages = { views: 6, attention: 4, patches: 8, neighbours: 8 };
const neighbourCount = 5;

/**
 * The figures of a report that need the network and images: two views, position embedding, filters, attention, patch features, map and
 * neighbours. What the network does not have, or cannot be drawn, is left out with a warning. All together are 0.3 to 1 MB, with images of pure noise 2 MB.
 *
 * @throws OptionError for options that mean nothing
 * @example
 * for await (const figure of runPictures({ folder: "runs/photos", data: "photos" }, console.warn)) page.push(figure.body);
 */
export async function* runPictures(run: PicturedRun, onWarning: (message: string) => void): AsyncGenerator<Figure, void, undefined> {
  const { folder, images = 400, maxThumbnails = 150, seed = 0, numHeads } = run;
  requireWhole("images", images, 1);
  requireWhole("maxThumbnails", maxThumbnails, 0);
  requireWhole("seed", seed, 0);
  const device = resolveDevice(run.device);
  const orWarn = async <T>(what: string, make: () => Promise<T> | T): Promise<T | null> => {
    try {
      return await make();
    } catch (error) {
      onWarning(`${what}: left out, ${(error as Error).message}`);
      return null;
    }
  };

  const recipe = recipeOf(folder);
  const source = await orWarn("pictures of images", () => openRunImages(run.data, recipe.data));
  if (source !== null) {
    const views = await orWarn("two views", () => drawViews(source, recipe));
    if (views !== null) yield views;
  }

  const encoders = await orWarn("pictures of the network", () => pictureEncoders(run.checkpoint ?? folder, { seed, device, numHeads }));
  if (encoders === null) return;
  using network = encoders;
  network.notes.forEach(onWarning);
  for (const figure of (await orWarn("position embedding", () => positions(network.trained, onWarning))) ?? []) yield figure;
  const filters = await orWarn("filters", () => filtersOf(network.trained, recipe.stopGradConv1, onWarning));
  if (filters !== null) yield filters;
  if (source === null) return;

  const extractors = { trained: new FeatureExtractor(network.trained, { device }), random: new FeatureExtractor(network.random, { device }) };
  const sampled = await orWarn("pictures of images", async () => {
    const found = await sampleImages(source, images, seed, extractors);
    if (found.bad.length > 0) onWarning(`${found.bad.length} of ${found.bad.length + found.images.length} images cannot be read (${found.bad[0]})`);
    return found;
  });
  if (sampled === null) return;
  using sample = sampled;
  if (sample.images.length === 0) return onWarning("pictures of images: left out, no image can be read; give others with --data");
  if (!torch.scope(() => torch.isfinite(sample.trained).all().item())) {
    return onWarning("pictures of images: left out, the features are not finite numbers: the training has diverged; look at the weights with moco inspect");
  }
  if (network.trained instanceof VisionTransformer) {
    const vit = network.trained;
    const attention = await orWarn("attention", () => attentionOf(vit, sample, device));
    if (attention !== null) yield attention;
    const colours = await orWarn("patch features", () => coloursOf(vit, sample, device));
    if (colours !== null) yield colours;
  }
  const map = await orWarn("map", () => mapFigure(sample.images, rowsOf(sample), { seed, most: maxThumbnails, aspect: sample.aspect }));
  if (map !== null) yield map;
  const neighbours = await orWarn("nearest neighbours", () => neighboursIn(sample));
  if (neighbours !== null) yield neighbours;
}

/** What a run's log tells of how it sees images; nothing where there is no log. */
interface Recipe {
  isPretraining: boolean;
  data?: string;
  seed?: number;
  imageSize?: number;
  cropMin?: number;
  exif?: boolean;
  augmentation?: RecipeChanges;
  stopGradConv1: boolean | null;
}

function recipeOf(folder: string): Recipe {
  const path = join(folder, RUN_LOG);
  const options = existsSync(path) ? readLatestRun(path).options : {};
  const given = <T>(name: string, kind: string): T | undefined => (typeof options[name] === kind && options[name] !== null ? (options[name] as T) : undefined);
  return {
    isPretraining: "mlpDim" in options, data: given("data", "string"), seed: given("seed", "number"), imageSize: given("imageSize", "number"),
    cropMin: given("cropMin", "number"), exif: given("exif", "boolean"), augmentation: given("augmentation", "object"),
    stopGradConv1: given("stopGradConv1", "boolean") ?? null,
  };
}

async function openRunImages(given: string | undefined, recorded: string | undefined): Promise<ImageSource | ImageStream> {
  const data = given ?? recorded;
  if (data === undefined) throw new Error("no log tells where the images are; give them with --data");
  // A report of somebody else's run must not run what its log says.
  if (given === undefined && data.includes("pipe:")) throw new Error(`they came through the command ${data}; to run it again, give it with --data`);
  const source = await openImages(data);
  if (source.length === 0) throw new Error(`${data} has no images; give others with --data`);
  return source;
}

async function drawViews(source: ImageSource | ImageStream, recipe: Recipe): Promise<Figure> {
  if (!recipe.isPretraining) throw new Error("the folder has no log of a pre-training, which would tell how images are cropped and coloured");
  const { seed, imageSize, cropMin, exif, augmentation } = recipe;
  return viewsFigure(await drawAugmentSheet(source, { rows: shownImages.views, seed, imageSize, cropMin, exif, augmentation }));
}

async function positions(encoder: Encoder, onWarning: (message: string) => void): Promise<Figure[]> {
  if (encoder instanceof VisionTransformer) return positionFigures(tableOf(encoder.posEmbed, encoder.patchEmbed.gridSize));
  onWarning("position embedding, attention and patch features: left out, a ResNet has no tokens");
  return [];
}

async function filtersOf(encoder: Encoder, frozen: boolean | null, onWarning: (message: string) => void): Promise<Figure> {
  if (encoder instanceof VisionTransformer && encoder.patchEmbed instanceof PatchEmbed) {
    return filterFigure(encoder.patchEmbed.proj.weight, { layer: "patch projection", frozen });
  }
  if (encoder instanceof VisionTransformer && encoder.patchEmbed instanceof ConvStem) {
    onWarning("patch-embedding filters: left out, a convolutional stem has none; its first convolution is shown instead");
  }
  const first = firstConvolution(encoder);
  if (first === undefined) throw new Error("the network has no convolution");
  return filterFigure(first.weight, { layer: "first convolution", frozen: null });
}

/** The one that sees the pixels. */
function firstConvolution(module: AnyModule): Conv2d | undefined {
  if (module instanceof Conv2d) return module;
  for (const child of module.children.values()) {
    const found = firstConvolution(child);
    if (found !== undefined) return found;
  }
  return undefined;
}

async function attentionOf(vit: VisionTransformer, sample: ImageSample, device: string): Promise<Figure> {
  const some = spread(sample.shown, shownImages.attention);
  const shares = torch.scope(() => {
    const inputs = torch.cat(some.map(({ input }) => input)).to(device); // [k, 3, H, W]
    return vit.classAttention(inputs).to("cpu").contiguous().data() as Float32Array;
  });
  const grid = vit.patchEmbed.gridSize;
  return attentionFigure({ images: some.map(({ image }) => image), depth: vit.blocks.layers.length, heads: vit.numHeads, grid, shares });
}

async function coloursOf(vit: VisionTransformer, sample: ImageSample, device: string): Promise<Figure> {
  const some = spread(sample.shown, shownImages.patches);
  using features = torch.noGrad(() => torch.scope(() => {
    const inputs = torch.cat(some.map(({ input }) => input)).to(device); // [k, 3, H, W]
    const tokens = vit.forwardTokens(vit.embedPatches(inputs)); // [k, 1 + patches, D]
    return tokens.narrow(1, 1, tokens.size(1) - 1).to("cpu").contiguous();
  }));
  return patchColoursFigure(some.map(({ image }) => image), features, vit.patchEmbed.gridSize);
}

function rowsOf({ trained }: ImageSample): Float32Array[] {
  const data = torch.scope(() => trained.to("cpu").data() as Float32Array);
  const dim = trained.size(1);
  return Array.from({ length: trained.size(0) }, (_, row) => data.subarray(row * dim, (row + 1) * dim));
}

function neighboursIn({ images, random, trained }: ImageSample): Figure {
  if (images.length < 2) throw new Error("there is one image only, which has no neighbours");
  const asked = spread(images.map((_, i) => i), shownImages.neighbours);
  const { queries, same } = neighbourQueries({ random, trained }, images.map(({ label }) => label), asked, neighbourCount);
  return neighbourFigure(images, queries, same);
}
