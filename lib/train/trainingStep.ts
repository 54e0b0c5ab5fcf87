import { PixelNormalizer, type TwoViewOptions } from "../data/index.js";
import { GradientCache, type MoCo, type Views } from "../moco/index.js";
import { VisionTransformer } from "../models/index.js";
import type { Scope, Tensor } from "../torch/index.js";
import { ratesOnDevice } from "./graphs/ratesOnDevice.js";
import { StepGraph } from "./graphs/stepGraph.js";
import { stepRecorder } from "./graphs/stepRecorder.js";
import { createAutocast } from "./options.js";
import type { Recipe } from "./pretrainOptions.js";
import type { Findings } from "./runs/finiteGuard.js";
import type { Trainee } from "./runs/trainingState.js";

/** Averages gradients over the processes that train together. */
export interface GradientAveraging {
  /** Before a backward pass whose gradients are to be averaged while it runs. */
  prepare(): void;
  /** After several backward passes that have added up their gradients here. */
  average(): void;
}

/** Who watches the steps. */
export interface StepWatcher {
  /** Another attempt at the step follows: what was seen of it is void. */
  forget(): void;
  /** What is to be known of a step whose gradients are there, for the device to compute; this may be part of a recording. */
  numbers(loss: Tensor, agree?: (numbers: Tensor[]) => Tensor[]): Tensor;
  /** Sends them on their way here. */
  findings(numbers: Tensor): Findings;
  /** Puts back what an abandoned step has changed. */
  undo(): void;
}

export interface TrainingStepHooks {
  watch: StepWatcher;
  averaging?: GradientAveraging;
  /** Makes the means over all processes of what each has found, so that all judge a step alike. */
  agree?(numbers: Tensor[]): Tensor[];
  /** Asked in the middle of a step that comes in chunks; processes that train together must all answer the same. */
  shouldStop?(): boolean;
  onWarning?(message: string): void;
}

/** What a device does in a training step, in two parts: between them the step is judged, before a weight is touched. */
export interface TrainingStep extends Disposable {
  /**
   * Moves the momentum encoder, and leaves the gradients, no longer scaled.
   *
   * @param scope gets what the step needs until it ends
   * @returns what is to be known of the step, on its way; null where the step was abandoned in its middle: nothing has changed then
   */
  compute(views: Views, momentum: number, scope: Scope): Promise<Findings | null>;
  /** Makes the optimiser's step, unless gradients have overflowed under the loss scale, and adjusts that. */
  update(): void;
}

/**
 * The whole batch at once, as it is or as CUDA graphs (see `StepGraph`), or in chunks of `microBatch` images (see `GradientCache`).
 */
export function createTrainingStep(trained: Omit<Trainee, "watch">, recipe: Recipe, hooks: TrainingStepHooks): TrainingStep {
  if (ratesOnDevice(recipe)) trained.moco.keepMomentumOnDevice();
  return comesInChunks(recipe) ? stepInChunks(trained, recipe, hooks) : wholeStep(trained, recipe, hooks);
}

function wholeStep(
  { moco, optimizer, scaler }: Omit<Trainee, "watch">, recipe: Recipe, { watch, averaging, agree, onWarning }: TrainingStepHooks,
): TrainingStep {
  const autocast = createAutocast(recipe);
  const dtype = computingType(recipe);
  const onFallback = (part: "step" | "update", reason: string): void => {
    const what = part === "step" ? "a step" : "the optimiser's update";
    onWarning?.(`${what} is launched kernel by kernel, not as a CUDA graph, which costs time where a step has few images: ${reason}`);
  };
  const graph = new StepGraph(optimizer, { recorder: stepRecorder(recipe), onFallback });
  const stepped = { parameters: () => optimizer.parameters(), step: () => graph.update(() => optimizer.step()) };
  return {
    compute: async (views, momentum, scope) => scope.run(() => {
      moco.requireViews(views, momentum);
      moco.setMomentum(momentum);
      const [numbers] = graph.compute(views, (inputs) => {
        watch.forget();
        moco.moveMomentumEncoder(); // towards the base weights as they are before this step
        const [x1, x2] = inputs.map((view) => view.to(dtype)) as [Tensor, Tensor];
        const loss = autocast(() => moco.loss([x1, x2]));
        averaging?.prepare();
        scaler.scale(loss).backward();
        scaler.unscaleGradients(stepped);
        return [watch.numbers(loss, agree)];
      }) as [Tensor];
      scaler.noteUnscaled(stepped);
      return watch.findings(numbers);
    }),
    update: () => {
      scaler.step(stepped);
      scaler.update();
    },
    [Symbol.dispose]: () => graph[Symbol.dispose](),
  };
}

function stepInChunks(
  { moco, optimizer, scaler }: Omit<Trainee, "watch">, recipe: Recipe, { watch, averaging, agree, shouldStop, onWarning }: TrainingStepHooks,
): TrainingStep {
  const normalizer = chunkedLoading(recipe).dtype === "uint8" ? new PixelNormalizer(recipe.device) : null;
  const dtype = computingType(recipe);
  const cache = new GradientCache(moco, {
    chunk: recipe.microBatch!, compute: createAutocast(recipe), scale: (loss) => scaler.scale(loss), shouldStop, putBack: () => watch.undo(),
    prepare: (pixels) => (normalizer === null ? pixels : normalizer.apply(pixels)).to(dtype),
  });
  if (cache.mixesImages) onWarning?.(chunksDiffer(moco, recipe));
  return {
    compute: async (views, momentum, scope) => {
      const loss = await cache.run(views, momentum);
      if (loss === null) return null;
      averaging?.average();
      scope.adopt(loss);
      return scope.run(() => {
        scaler.unscale_(optimizer);
        return watch.findings(watch.numbers(loss, agree));
      });
    },
    update: () => {
      scaler.step(optimizer);
      scaler.update();
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
