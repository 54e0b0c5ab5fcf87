import type { ImageSource } from "../data/index.js";
import { encoderFromFile, type Encoder } from "../models/index.js";
import { FeatureExtractor } from "./features.js";
import { readEncoder } from "./initialWeights.js";

export interface EmbedderOptions {
  /** Height and width of the network's input. Default: a ViT's own, 224 for a ResNet. */
  imageSize?: number;
  /** Attention heads of a ViT, where they are not what the file says or its kind usually has. */
  numHeads?: number;
  batchSize?: number;
}

/** An image cannot be embedded. */
export class EmbedError extends Error {
  override readonly name = "EmbedError";
}

/**
 * A trained encoder that turns images into feature vectors: the class token of a ViT, the pooled features of a ResNet.
 *
 * @example
 * using embedder = await Embedder.load("runs/cats");
 * const [a, b] = await embedder.embed(["a.jpg", "b.jpg"]); // Float32Array each
 */
export class Embedder {
  readonly #extractor: FeatureExtractor;

  constructor(readonly encoder: Encoder, { imageSize, batchSize }: EmbedderOptions = {}) {
    this.#extractor = new FeatureExtractor(encoder, { imageSize, batchSize });
  }

  /**
   * Reads the encoder out of a file of any kind that `moco convert` knows: of pre-training (the base encoder; a run's folder stands for its
   * furthest checkpoint), of a linear probe, of DeiT, timm, torchvision or Hugging Face (a folder with config.json), or a bare state dict.
   *
   * @throws CheckpointError, ConvertError, ModelConfigError or StateDictError that say what does not fit
   */
  static async load(path: string, options: EmbedderOptions = {}): Promise<Embedder> {
    using read = await readEncoder(path, { numHeads: options.numHeads });
    return new Embedder(encoderFromFile(read), options);
  }

  /** Length of a feature vector. */
  get featureDim(): number {
    return this.encoder.featureDim;
  }

  /**
   * Feature vectors of image files (paths or their bytes), in their order. Images are resized and cropped as in evaluation: shorter side to
   * 8/7 of the input size, then the centre.
   *
   * @throws EmbedError that names the image which cannot be read
   */
  async embed(images: readonly (string | Uint8Array)[]): Promise<Float32Array[]> {
    const source: ImageSource = {
      length: images.length,
      name: (index) => (typeof images[index] === "string" ? images[index] : `image ${index}`),
      image: (index) => images[index]!,
    };
    using table = await this.#extractor.extract(source);
    const [bad] = table.bad;
    if (bad) throw new EmbedError(`${bad.name} cannot be embedded: ${bad.reason}`);
    const data = table.features.data() as Float32Array;
    return images.map((_, i) => data.slice(i * this.featureDim, (i + 1) * this.featureDim));
  }

  /** Frees the encoder. */
  dispose(): void {
    this.encoder.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
