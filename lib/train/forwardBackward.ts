import { PixelNormalizer, type TwoViewOptions } from "../data/index.js";
import { GradientCache, type MoCo, type Views } from "../moco/index.js";
import { VisionTransformer } from "../models/index.js";
import type { GradScaler } from "../optim/index.js";
import type { Scope, Tensor } from "../torch/index.js";
import { StepGraph } from "./graphs/stepGraph.js";
import { stepRecorder } from "./graphs/stepRecorder.js";
import { createAutocast } from "./options.js";
import type { Recipe } from "./pretrainOptions.js";

/** Averages gradients over the processes that train together. */
export interface GradientAveraging {
  /** Before a backward pass whose gradients are to be averaged while it runs. */
  prepare(): void;
  /** After several backward passes that have added up their gradients here. */
  average(): void;
}

/** What the network's observer sees of a step, as tensors: a step that is launched as a CUDA graph runs no JavaScript, and the graph has them. */
export interface SeenContrasts {
  /** What an earlier step has left. */
  forget(): void;
  take(): Tensor[];
  give(tensors: readonly Tensor[]): void;
}

/** Who watches the steps. */
export interface StepWatcher {
  /** Null where nobody reads what is seen. */
  readonly contrasts: SeenContrasts | null;
  /** Puts back what an abandoned step has changed. */
  undo(): void;
}

export interface ForwardBackwardHooks {
  /** Asked in the middle of a step that comes in chunks; processes that train together must all answer the same. */
  shouldStop?(): boolean;
  onWarning?(message: string): void;
  averaging?: GradientAveraging;
  watch: StepWatcher;
}

/** Forward and backward pass of a training step. */
export interface ForwardBackward extends Disposable {
  /**
   * Leaves the gradients, scaled, and moves the momentum encoder.
   *
   * @param scope gets the loss and what else the step needs until it ends
   * @returns the loss, or null where the step was abandoned in its middle: nothing has changed then
   */
  run(views: Views, momentum: number, scope: Scope): Promise<Tensor | null>;
}

/**
 * The whole batch at once, as it is or as a CUDA graph (see `StepGraph`), or in chunks of `microBatch` images (see `GradientCache`).
 */
export function createForwardBackward(moco: MoCo, scaler: GradScaler, recipe: Recipe, hooks: ForwardBackwardHooks): ForwardBackward {
  const autocast = createAutocast(recipe);
  const { averaging, shouldStop, watch } = hooks;
  const { contrasts } = watch;
  const dtype = computingType(recipe);
  if (!comesInChunks(recipe)) {
    const onFallback = (reason: string): void =>
      hooks.onWarning?.(`the steps are launched kernel by kernel, not as a CUDA graph, which costs time where a step has few images: ${reason}`);
    const graph = new StepGraph(moco.parameters(), { recorder: stepRecorder(recipe), onFallback });
    return {
      run: async (views, momentum, scope) => scope.run(() => {
        moco.requireViews(views, momentum);
        moco.updateMomentumEncoder(momentum); // towards the base weights as they are before this step
        const [loss, ...seen] = graph.run(views, (inputs) => {
          contrasts?.forget();
          const [x1, x2] = inputs.map((view) => view.to(dtype)) as [Tensor, Tensor];
          const loss = autocast(() => moco.loss([x1, x2]));
          averaging?.prepare();
          scaler.scale(loss).backward();
          return [loss, ...(contrasts?.take() ?? [])];
        }) as [Tensor, ...Tensor[]];
        contrasts?.give(seen);
        return loss;
      }),
      [Symbol.dispose]: () => graph.dispose(),
    };
  }
  const normalizer = chunkedLoading(recipe).dtype === "uint8" ? new PixelNormalizer(recipe.device) : null;
  const cache = new GradientCache(moco, {
    chunk: recipe.microBatch!, compute: autocast, scale: (loss) => scaler.scale(loss), shouldStop, putBack: () => watch.undo(),
    prepare: (pixels) => (normalizer === null ? pixels : normalizer.apply(pixels)).to(dtype),
  });
  if (cache.mixesImages) hooks.onWarning?.(chunksDiffer(moco, recipe));
  return {
    run: async (views, momentum, scope) => {
      const loss = await cache.run(views, momentum);
      if (loss === null) return null;
      averaging?.average();
      scope.adopt(loss);
      return loss;
    },
    [Symbol.dispose]: () => {
      cache.dispose();
      normalizer?.dispose();
    },
  };
}

/** Of weights and views; autocast computes some operators in a smaller one. */
export function computingType({ precision }: Pick<Recipe, "precision">): "float32" | "float64" {
  return precision === "fp64" ? "float64" : "float32";
}

/** A rank's batch that is no larger than a chunk needs no second forward pass. */
function comesInChunks({ microBatch, batchSize, worldSize }: Recipe): boolean {
  return microBatch !== null && microBatch < batchSize / worldSize;
}

/**
 * How a loader gives batches that are encoded in chunks: two batches of finished views may be larger than all else in memory (9.9 GB for
 * 4,096 images at 224 pixels), so they stay bytes until a chunk needs them, and one batch is made ahead, not two. A GPU that augments gives
 * finished ones.
 */
export function chunkedLoading(recipe: Recipe): Pick<TwoViewOptions, "dtype" | "prefetch"> {
  if (!comesInChunks(recipe)) return {};
  return { prefetch: 1, dtype: recipe.augment === "gpu" ? "float32" : "uint8" };
}

function chunksDiffer({ baseEncoder }: MoCo, { arch, microBatch }: Recipe): string {
  const where = baseEncoder instanceof VisionTransformer ? "its convolutional stem" : "it";
  return (
    `microBatch: ${arch} is not trained as on the whole batch, because BatchNorm in ${where} takes its statistics from ${microBatch} images at a ` +
    "time. The loss and the heads see the whole batch. Take large chunks; docs/memory.md has how much it changes. A plain ViT has no such difference"
  );
}
