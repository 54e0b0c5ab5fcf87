import { evaluationBatches, imageNetNormalization, isStream, RandomStream, type EvaluationBatch, type ImageSource, type ImageStream } from "../../data/index.js";
import type { MappedImage } from "../../report/pictures/mapFigure.js";
import { rasterOfPlanes, webpUri, type Raster } from "../../report/pictures/raster.js";
import type { ShownImage } from "../../report/pictures/shownImage.js";
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import type { FeatureExtractor } from "../features.js";

/** Images of a data set with what two networks make of them. */
export interface ImageSample extends Disposable {
  images: MappedImage[];
  /** Width over height of all of them, as the network gets them. */
  aspect: number;
  /** Some of them, evenly spread, in full. */
  shown: { image: ShownImage; input: Tensor }[];
  /** Feature vectors [N, D] of the trained network, and of the random one. */
  trained: Tensor;
  random: Tensor;
  /** What could not be read, in words. */
  bad: string[];
}

const batchSize = 32;
const mostShown = 16;
const thumbnailSide = 80;
/** Stream of the random numbers, among those of a seed. */
const stream = 0x73616d70;

/**
 * Reads up to `count` images, evenly spread over a source or from the beginning of a stream.
 *
 * @param extractors of the trained and of the random network, for images of the same size
 */
export async function sampleImages(
  source: ImageSource | ImageStream, count: number, seed: number, extractors: { trained: FeatureExtractor; random: FeatureExtractor },
): Promise<ImageSample> {
  const { trained } = extractors;
  const [height, width] = trained.imageSize;
  const wanted = Math.min(count, source.length);
  const everyShown = Math.max(1, Math.ceil(wanted / mostShown));
  const parts: { trained: Tensor[]; random: Tensor[] } = { trained: [], random: [] };
  const images: MappedImage[] = [];
  const shown: ImageSample["shown"] = [];
  const bad: string[] = [];
  const indices = isStream(source) ? undefined : spreadIndices(source.length, wanted, seed);
  try {
    for await (const batch of evaluationBatches(source, { batchSize: Math.min(batchSize, Math.max(1, wanted)), ...(indices && { indices }), ...trained.preparation() })) {
      bad.push(...batch.bad.map(({ name, reason }) => `${name}: ${reason}`));
      try {
        if (batch.names.length > 0) for (const which of ["trained", "random"] as const) parts[which].push(torch.keep(extractors[which].forward(batch.images)));
        const planes = pixelPlanes(batch.images);
        for (let row = 0; row < batch.names.length; row++) {
          const picture = rasterOfPlanes(planes.subarray(row * 3 * height * width, (row + 1) * 3 * height * width), width, height);
          const facts = { name: batch.names[row]!, label: labelOf(source, batch, row) };
          if (images.length % everyShown === 0) {
            shown.push({ image: { ...facts, picture }, input: torch.keep(torch.scope(() => batch.images.narrow(0, row, 1).clone())) });
          }
          images.push({ ...facts, thumbnail: await thumbnailOf(picture) });
        }
      } finally {
        batch.images.dispose();
      }
      if (images.length + bad.length >= wanted) break;
    }
    const joined = (list: Tensor[]): Tensor => torch.keep(list.length > 0 ? torch.cat(list) : torch.empty([0, trained.dim]));
    const features = { trained: joined(parts.trained), random: joined(parts.random) };
    const dispose = (): void => {
      for (const each of [features.trained, features.random, ...shown.map(({ input }) => input)]) each.dispose();
    };
    return { images, aspect: width / height, shown, ...features, bad, [Symbol.dispose]: dispose };
  } catch (error) {
    for (const { input } of shown) input.dispose();
    throw error;
  } finally {
    for (const each of [...parts.trained, ...parts.random]) each.dispose();
  }
}

/** Numbers below `length`, one from each of `count` equal parts, drawn by the seed. */
export function spreadIndices(length: number, count: number, seed: number): number[] {
  const random = new RandomStream({ seed, epoch: 0, index: 0, stream });
  return Array.from({ length: count }, (_, part) => {
    const [first, next] = [Math.floor((part * length) / count), Math.floor(((part + 1) * length) / count)];
    return first + random.integer(next - first);
  });
}

/** Up to `count` of a list, evenly spread, the first one among them. */
export function spread<T>(list: readonly T[], count: number): T[] {
  const taken = Math.min(count, list.length);
  return Array.from({ length: taken }, (_, i) => list[Math.floor((i * list.length) / taken)]!);
}

/** The pixels that a batch `[N, 3, H, W]` was made from, 0 to 255. */
function pixelPlanes(images: Tensor): Float32Array {
  const { mean, std } = imageNetNormalization;
  return torch.scope(() => {
    const [scale, shift] = [std, mean].map((each) => torch.tensor([...each], [1, 3, 1, 1])) as [Tensor, Tensor];
    return images.mul(scale).add_(shift).mul_(255).data() as Float32Array;
  });
}

function labelOf(source: ImageSource | ImageStream, batch: EvaluationBatch, row: number): string | null {
  const label = batch.labels[row];
  return label == null ? null : (source.classes?.[label] ?? null);
}

function thumbnailOf(picture: Raster): Promise<string> {
  return webpUri(picture, { side: thumbnailSide, quality: 72 });
}
