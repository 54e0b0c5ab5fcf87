import {
  evaluationBatches, evaluationResize, type BadImage, type EvaluationBatchOptions, type EvaluationOptions, type ImageSource, type ImageStream,
} from "../data/index.js";
import { MLPHead } from "../moco/index.js";
import { VisionTransformer, type Encoder } from "../models/index.js";
import { Linear } from "../nn/index.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { createAutocast, type Precision } from "./options.js";

/**
 * What of an encoder becomes an image's feature vector:
 * - `"class"`: a ViT's normalised class token, which linear probes and kNN use.
 * - `"patches"`: the mean of a ViT's normalised patch tokens.
 * - `"pooled"`: the mean over a ResNet's last feature map.
 * - `"projector"`: what MoCo's projector makes of the class token or the pooled features, the space in which pre-training compares images.
 */
export type FeatureLayer = "class" | "patches" | "pooled" | "projector";

/** Which features are taken, and from images of which size. */
export interface FeatureOptions {
  /** Default: the class token of a ViT, the pooled features of a ResNet. */
  layer?: FeatureLayer;
  /** Height and width of the network's input in pixels. Default: the encoder's. */
  imageSize?: number | readonly [number, number];
  /** Default 64. */
  batchSize?: number;
  /** Where the network runs; the encoder must be there. Default `"cpu"`. */
  device?: string;
  /** Of the forward pass. Features are float32 in any. Default `"fp32"`. */
  precision?: Precision;
}

/** Features cannot be had: of this layer, or of this image. */
export class FeatureError extends Error {
  override readonly name = "FeatureError";
}

/** Features of a batch of images. */
export interface FeatureBatch {
  /** Float32 [n, dim] on the network's device; the consumer disposes of it. */
  features: Tensor;
  /** Row by row: indices of a source, ids of a stream. */
  indices: number[];
  names: string[];
  labels: (number | null)[];
  /** What could not be read. */
  bad: BadImage[];
}

/** Features of a data set. */
export interface FeatureTable extends Omit<FeatureBatch, "bad"> {
  bad: BadImage[];
  [Symbol.dispose](): void;
}

/**
 * A frozen encoder that turns images into feature vectors, in evaluation mode and without gradients.
 *
 * @example
 * const extractor = new FeatureExtractor(encoder, { batchSize: 256 });
 * using table = await extractor.extract(images); // table.features [N, 384], table.labels
 */
export class FeatureExtractor {
  readonly imageSize: readonly [number, number];
  readonly layer: FeatureLayer;
  readonly batchSize: number;
  readonly device: string;
  readonly #autocast: <T>(fn: () => T) => T;

  /** @throws FeatureError for a layer that the encoder does not have, and for an image size that a ViT's positions do not fit */
  constructor(readonly encoder: Encoder, options: FeatureOptions = {}) {
    const isVit = encoder instanceof VisionTransformer;
    const { imageSize = encoder.imageSize, batchSize = 64, device = "cpu", precision = "fp32" } = options;
    this.layer = options.layer ?? (isVit ? "class" : "pooled");
    const layers = layersOf(encoder);
    if (!layers.includes(this.layer)) {
      const projector = this.layer === "projector" ? "this encoder has no projector, only pre-training checkpoints keep it" : null;
      const kind = isVit ? "ViT" : "ResNet";
      throw new FeatureError(`the layer is "${this.layer}", and ${projector ?? `a ${kind} has others`}; choose ${layers.join(" or ")}`);
    }
    this.imageSize = typeof imageSize === "number" ? [imageSize, imageSize] : imageSize;
    if (isVit && String(this.imageSize) !== String(encoder.imageSize)) {
      throw new FeatureError(
        `the image size is ${this.imageSize.join(" x ")}, and this ViT's position embedding is for ${encoder.imageSize.join(" x ")}; ` +
        "leave the size out, or fine-tune the encoder for the other one",
      );
    }
    this.batchSize = batchSize;
    this.device = device;
    this.#autocast = createAutocast({ device, precision });
    encoder.eval();
  }

  /** Length of a feature vector. */
  get dim(): number {
    return this.layer === "projector" ? projectedDim(this.encoder) : this.encoder.featureDim;
  }

  /**
   * How images become the network's input.
   *
   * @param resizeShorter length of the shorter side before the centre is cut out. Default: 8/7 of the input, as in evaluation (256 for 224);
   *   null resizes the whole image to the input, whatever its shape
   */
  preparation(resizeShorter: number | null = evaluationResize(this.imageSize)): EvaluationOptions {
    return resizeShorter === null ? { imageSize: this.imageSize } : { imageSize: this.imageSize, resizeShorter };
  }

  /** Features float32 [N, dim] of images [N, 3, H, W], on the network's device. */
  forward(images: Tensor): Tensor {
    return torch.scope(() => torch.noGrad(() => this.#autocast(() => this.#ofLayer(images.to(this.device))).to("float32")));
  }

  #ofLayer(images: Tensor): Tensor {
    const { encoder } = this;
    if (this.layer === "projector") return encoder.forward(images);
    if (this.layer !== "patches" || !(encoder instanceof VisionTransformer)) return encoder.forwardFeatures(images);
    const tokens = encoder.forwardTokens(encoder.embedPatches(images)); // [N, 1 + patches, D]
    return tokens.narrow(1, 1, tokens.size(1) - 1).mean([1]);
  }

  /**
   * Features of all images, batch by batch; what cannot be read is reported instead.
   *
   * @param options.resizeShorter see {@link preparation}
   * @throws FeatureError that names the first image whose features are not finite numbers
   */
  async *batches(
    source: ImageSource | ImageStream,
    options: Partial<Omit<EvaluationBatchOptions, "imageSize" | "resizeShorter">> & { resizeShorter?: number | null } = {},
  ): AsyncGenerator<FeatureBatch, void, undefined> {
    const { batchSize } = this;
    const { resizeShorter, ...rest } = options;
    for await (const { images, ...facts } of evaluationBatches(source, { batchSize, ...rest, ...this.preparation(resizeShorter) })) {
      const features = facts.indices.length > 0 ? this.forward(images) : torch.empty([0, this.dim], { device: this.device });
      images.dispose();
      requireFiniteFeatures(torch.keep(features), (row) => facts.names[row]!);
      yield { ...facts, features };
    }
  }

  /** Features of all images at once, to be disposed of by the caller. Options and errors as for {@link batches}. */
  async extract(...[source, options]: Parameters<FeatureExtractor["batches"]>): Promise<FeatureTable> {
    const parts: FeatureBatch[] = [];
    try {
      for await (const batch of this.batches(source, options)) parts.push(batch);
      const features = torch.keep(parts.length > 0 ? torch.cat(parts.map((part) => part.features)) : torch.empty([0, this.dim], { device: this.device }));
      return {
        features, indices: parts.flatMap(({ indices }) => indices), names: parts.flatMap(({ names }) => names),
        labels: parts.flatMap(({ labels }) => labels), bad: parts.flatMap(({ bad }) => bad), [Symbol.dispose]: () => features.dispose(),
      };
    } finally {
      for (const { features } of parts) features.dispose();
    }
  }
}

/**
 * Makes sure that features are finite numbers; they are disposed of where they are not.
 *
 * @param features [N, D]
 * @param nameOf how to call a row's image
 * @throws FeatureError that names the first image whose features are not
 */
export function requireFiniteFeatures(features: Tensor, nameOf: (row: number) => string): void {
  const finite = torch.scope(() => torch.isfinite(features).all(1).toArray() as boolean[]);
  const row = finite.indexOf(false);
  if (row < 0) return;
  features.dispose();
  throw new FeatureError(notFinite(nameOf(row)));
}

/** Says of an image that its features are not finite, and what to do. */
export function notFinite(name: string): string {
  return `the features of ${name} are not finite numbers: the checkpoint's training has diverged, or the precision is too low; ` +
    "look at the weights with moco inspect, or try --precision fp32";
}

function layersOf(encoder: Encoder): FeatureLayer[] {
  const own: FeatureLayer[] = encoder instanceof VisionTransformer ? ["class", "patches"] : ["pooled"];
  return encoder.head instanceof MLPHead ? [...own, "projector"] : own;
}

/** Outputs of the projector. */
function projectedDim(encoder: Encoder): number {
  const linear = (encoder.head as MLPHead).layers.filter((layer) => layer instanceof Linear);
  return linear.at(-1)!.outFeatures;
}
