import { setImmediate as nextTurn } from "node:timers/promises";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { ChunkStatistics } from "./chunkStatistics.js";
import { encodeViews, type Views } from "./encodeViews.js";
import { MoCoError, type MoCo } from "./moco.js";
import { StepMemory } from "./stepMemory.js";

/** Size of the chunks of a {@link GradientCache}, and when it stops. */
export interface GradientCacheOptions {
  /** Images that are encoded at once, two views of each. */
  chunk: number;
  /** Runs a part of the forward pass, as under autocast. Default: as it is. */
  compute?: <T>(forward: () => T) => T;
  /** What `backward` is called on, as `GradScaler.scale`. Default: the loss itself. */
  scale?: (loss: Tensor) => Tensor;
  /** Makes what the encoders take, float `[n, 3, H, W]`, of a chunk of a view. Default: nothing is left to do. */
  prepare?: (pixels: Tensor) => Tensor;
  /**
   * Asked between chunks whether to abandon the step. Processes that work together must all answer the same. Default: never; what an
   * abandoned step would have to put back is not remembered then.
   */
  shouldStop?: () => boolean;
  /** Puts back what an abandoned step has changed, for a caller who has remembered it (`StepMemory`) already. Default: it is remembered here. */
  putBack?: () => void;
}

/** A chunk of the batch, and the state of the random numbers that its base features were computed with. */
interface Chunk {
  first: number;
  count: number;
  random: Tensor;
}

/**
 * Forward and backward pass of a batch that is too large for the memory: gradient caching (Gao et al., "Scaling Deep Contrastive Learning
 * Batch Size under Memory Limited Setup", 2021).
 *
 * The loss contrasts each image with all others of the batch, so adding up the gradients of small batches would be another method. But it
 * reaches the encoder only through the features, `[2N, D]`, which are small:
 *
 * 1. Both encoders give the features of all images, chunk by chunk and without a graph.
 * 2. The heads, whose BatchNorm sees the whole batch, and the loss run once; backward stops at the features.
 * 3. Each chunk is encoded again, with a graph, and backward goes on from its features' gradients.
 *
 * The gradients are those of the whole batch, but for rounding, wherever an encoder treats each image by itself, as a ViT does. The price
 * is a second forward pass of the base encoder. Where an encoder has BatchNorm over images (`mixesImages`), it takes its statistics from one
 * chunk and view at a time; see `ChunkStatistics` for what it remembers of them.
 *
 * @example
 * using step = new GradientCache(moco, { chunk: 32 });
 * const loss = await step.run([x1, x2], 0.99); // the gradients are there; the caller disposes of the loss
 */
export class GradientCache {
  readonly #memory: StepMemory | null;
  readonly #statistics: readonly [base: ChunkStatistics, momentum: ChunkStatistics];

  /** @throws MoCoError for a chunk of no images */
  constructor(private readonly moco: MoCo, private readonly options: GradientCacheOptions) {
    const { chunk, shouldStop, putBack } = options;
    if (!Number.isInteger(chunk) || chunk < 1) throw new MoCoError(`a chunk of ${chunk} images; give a whole number of at least 1, such as 32`);
    this.#memory = shouldStop === undefined || putBack !== undefined ? null : new StepMemory(moco);
    this.#statistics = [new ChunkStatistics(moco.baseEncoder), new ChunkStatistics(moco.momentumEncoder)];
  }

  /** Whether the encoders have BatchNorm over images, so that chunks change what they compute. */
  get mixesImages(): boolean {
    return !this.#statistics[0].empty;
  }

  /**
   * As `moco.forward` and the loss's `backward`, with an empty turn of the event loop after each chunk: adds to the parameters' gradients
   * and moves the momentum encoder.
   *
   * @param views two views of the same images, on the encoders' device
   * @returns the symmetric loss, without a graph, which the caller disposes of. Null where the step was abandoned: then the momentum
   *   encoder, BatchNorm's statistics and the random numbers are what they were, and no parameter has a gradient.
   */
  async run(views: Views, momentum: number): Promise<Tensor | null> {
    const { moco } = this;
    moco.requireViews(views, momentum);
    using scope = torch.openScope();
    this.#memory?.remember();
    moco.updateMomentumEncoder(momentum); // towards the base weights as they are before this step

    const images = views[0].shape[0]!;
    const chunks: Chunk[] = [];
    const features: [base: Tensor[], momentum: Tensor[]] = [[], []]; // each [2, n, D]
    this.#statistics.forEach((statistics) => statistics.begin());
    for (let first = 0; first < images; first += this.options.chunk) {
      const chunk = scope.run(() => ({ first, count: Math.min(this.options.chunk, images - first), random: torch.getRngState(this.#device) }));
      chunks.push(chunk);
      scope.run(() => this.#encode(views, chunk, images)).forEach((each, encoder) => features[encoder]!.push(each));
      if (await this.#isAbandoned(chunks)) return null;
    }
    this.#statistics.forEach((statistics) => statistics.settle());

    const [queryFeatures, keyFeatures] = scope.run(() => features.map((each) => torch.cat(each, 1).flatten(0, 1))) as [Tensor, Tensor]; // [2N, D]
    features.flat().forEach((each) => each.dispose());
    const keys = scope.run(() => torch.noGrad(() => this.#compute(() => moco.projectKeys(keyFeatures)))); // two of [N, dim]
    if (await this.#isAbandoned(chunks)) return null;
    queryFeatures.requiresGrad_();
    const loss = scope.run(() => this.#compute(() => moco.contrast(moco.predict(queryFeatures), keys)));
    if (await this.#isAbandoned(chunks)) return null;
    scope.run(() => (this.options.scale?.(loss) ?? loss).backward());
    if (await this.#isAbandoned(chunks)) return null;

    const gradient = scope.run(() => queryFeatures.grad!.unflatten(0, [2, images])); // [2, N, D]
    const random = scope.run(() => torch.getRngState(this.#device));
    for (const chunk of chunks) {
      scope.run(() => this.#backward(views, chunk, gradient));
      if (await this.#isAbandoned(chunks)) return null;
    }
    torch.setRngState(random, this.#device);
    return torch.keep(scope.run(() => loss.detach()));
  }

  /** Features `[2, n, D]` of both encoders, without a graph. */
  #encode(views: Views, { first, count }: Chunk, images: number): Tensor[] {
    const { moco } = this;
    const share = count / images;
    return torch.noGrad(() => torch.scope(() => {
      const pixels = this.#take(views, first, count);
      return this.#compute(() => {
        const patchTokens = moco.sharedPatchTokens(pixels);
        return [moco.baseEncoder, moco.momentumEncoder].map((encoder, i) =>
          this.#statistics[i]!.record(share, () => encodeViews(encoder, pixels, patchTokens)).unflatten(0, [2, count]));
      });
    }));
  }

  /** Encodes a chunk again and takes the features' gradients on to the base encoder's parameters. */
  #backward(views: Views, { first, count, random }: Chunk, gradient: Tensor): void {
    const { moco } = this;
    torch.scope(() => {
      // An encoder that draws, as one with stochastic depth does, must draw as it did.
      torch.setRngState(random, this.#device);
      const pixels = torch.noGrad(() => this.#take(views, first, count));
      this.#statistics[0].repeat(() => {
        const features = this.#compute(() => encodeViews(moco.baseEncoder, pixels)); // [2n, D]
        torch.backward([features], [gradient.narrow(1, first, count).flatten(0, 1)]);
      });
    });
  }

  #take(views: Views, first: number, count: number): Views {
    const { prepare = (pixels) => pixels } = this.options;
    return views.map((view) => prepare(view.narrow(0, first, count))) as [Tensor, Tensor];
  }

  #compute<T>(forward: () => T): T {
    return this.options.compute?.(forward) ?? forward();
  }

  get #device(): string {
    return this.moco.parameters()[0]!.device;
  }

  /** Lets others have the thread, and puts everything back where the step is to be abandoned. */
  async #isAbandoned([first]: readonly Chunk[]): Promise<boolean> {
    await nextTurn();
    if (this.options.shouldStop?.() !== true) return false;
    if (this.options.putBack === undefined) this.#memory!.restore();
    else this.options.putBack();
    torch.setRngState(first!.random, this.#device);
    this.moco.zeroGrad();
    return true;
  }

  dispose(): void {
    this.#memory?.dispose();
    this.#statistics.forEach((statistics) => statistics.dispose());
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
