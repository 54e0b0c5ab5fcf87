import { evaluationBatches, type ImageSource } from "../data/index.js";
import { encoderFromFile, VisionTransformer, type Encoder } from "../models/index.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
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
  readonly imageSize: number;
  readonly #batchSize: number;

  constructor(readonly encoder: Encoder, options: EmbedderOptions = {}) {
    const own = encoder instanceof VisionTransformer ? encoder.imageSize[0] : 224;
    this.imageSize = options.imageSize ?? own;
    this.#batchSize = options.batchSize ?? 64;
    encoder.eval();
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
    const features = await this.features(source, { resizeShorter: Math.round((this.imageSize * 8) / 7) });
    const data = features.data() as Float32Array;
    features.dispose();
    return images.map((_, i) => data.slice(i * this.featureDim, (i + 1) * this.featureDim));
  }

  /**
   * Features [length, featureDim] of all images of a source, float32, to be disposed of by the caller.
   *
   * @param options.resizeShorter see {@link evaluationBatches}; without it the whole image is resized to the input size
   */
  async features(source: ImageSource, options: { resizeShorter?: number } = {}): Promise<Tensor> {
    using scope = torch.openScope();
    const parts: Tensor[] = [];
    for await (const { images, bad } of evaluationBatches(source, { ...options, imageSize: this.imageSize, batchSize: this.#batchSize })) {
      parts.push(scope.run(() => torch.noGrad(() => this.encoder.forwardFeatures(images))));
      images.dispose();
      if (bad[0]) throw new EmbedError(`${bad[0].name} cannot be embedded: ${bad[0].reason}`);
    }
    return torch.keep(parts.length > 0 ? scope.run(() => torch.keep(torch.cat(parts))) : torch.empty([0, this.featureDim]));
  }

  /** Frees the encoder. */
  dispose(): void {
    this.encoder.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
