import { setImmediate as nextTurn } from "node:timers/promises";
import { openImages, requireImages, TwoViewLoader, type BadImage } from "../data/index.js";
import { createMoCo, type MoCo } from "../moco/index.js";
import { GradScaler, learningRateAt, momentumAt } from "../optim/index.js";
import type { EndEntry, KnnEntry, RunEntry, StepEntry } from "../report/index.js";
import * as torch from "../torch/index.js";
import type { Position } from "./runs/checkpointFiles.js";
import { FiniteGuard } from "./runs/finiteGuard.js";
import { beginWith, readEncoder } from "./initialWeights.js";
import { chooseKernels } from "./kernels.js";
import { KnnProbe } from "./neighbours/knnProbe.js";
import { createAutocast } from "./options.js";
import {
  createOptimizer, isSaveDue, randomSeed, resolveOptions, trainingFacts, type PretrainOptions,
} from "./pretrainOptions.js";
import { readToResume } from "./runs/resuming.js";
import { RunRecorder } from "./runs/runRecorder.js";
import { SavedTraining, type RunFacts, type Trainee } from "./runs/trainingState.js";
import { untilAborted } from "./runs/untilAborted.js";

/** What a caller hears, and can say, while the training runs. */
export interface PretrainHooks {
  /** Before the first step: what the run is, and the network as it starts. Awaited. */
  onStart?(run: RunEntry, moco: MoCo): void | Promise<void>;
  onStep?(step: StepEntry): void;
  onCheckpoint?(path: string): void;
  /** The encoder was judged, as `knnEvery` asks. */
  onKnn?(entry: KnnEntry): void;
  /** An image could not be read and was left out. */
  onBadImage?(image: BadImage): void;
  /** Something will not go as the options suggest. */
  onWarning?(message: string): void;
  /** Once aborted, the run finishes its step, or leaves off waiting for images, saves and returns. */
  signal?: AbortSignal;
}

export interface PretrainResult {
  /** The trained network; the caller disposes of it. */
  moco: MoCo;
  reason: Exclude<EndEntry["reason"], "failed">;
  /** Steps done by this call. */
  steps: number;
  /** Loss of the last step, or null without one. */
  loss: number | null;
  /** Path of the last checkpoint written, or null. */
  checkpoint: string | null;
  badImages: BadImage[];
  seconds: number;
}

/**
 * Pre-trains an image encoder on unlabelled images with MoCo v3 (Chen, Xie and He, 2021).
 *
 * With `out`, that folder gets a checkpoint per epoch, which PyTorch and upstream's programs open, and a log of every step.
 *
 * The same options and seed give the same weights, whatever the number of workers; a run that was stopped and resumed ends with the
 * weights, to the bit, of one that was not (for the same device and number of threads; on a GPU with `deterministic`).
 *
 * @throws OptionError; the errors of images, checkpoint and model, before training begins; NonFiniteError when it diverges
 * @example
 * const { moco } = await pretrain(
 *   { data: "photos", encoder: "vit_small", optimizer: "adamw", baseLr: 1.5e-4, weightDecay: 0.1, temperature: 0.2, batchSize: 256 },
 *   { onStep: ({ step, loss }) => console.log(step, loss) },
 * );
 */
export async function pretrain(options: PretrainOptions, hooks: PretrainHooks = {}): Promise<PretrainResult> {
  const recipe = resolveOptions(options);
  const { device, epochs } = recipe;
  torch.retainFreedMemory();
  using _ = chooseKernels(recipe);
  if (recipe.threads !== null) torch.setNumThreads(recipe.threads);

  // Images and checkpoint first: what is wrong with them shows before any time goes into a network.
  const { images: length, shuffleBuffer } = options;
  const source = typeof options.data === "string" ? await openImages(options.data, { length, shuffleBuffer }) : options.data;
  requireImages(source, recipe.batchSize);
  const probe = await KnnProbe.open(options.data, recipe);
  using saved = await readToResume(recipe, (path) => SavedTraining.read(path), hooks.onWarning);
  using initial = recipe.init === null || saved !== null ? null : await readEncoder(recipe.init);
  const seed = recipe.seed ?? saved?.facts?.seed ?? randomSeed();
  await using loader = new TwoViewLoader(source, {
    batchSize: recipe.batchSize, imageSize: recipe.imageSize, cropMin: recipe.cropMin, augmentation: recipe.augmentation ?? {}, seed,
    threads: recipe.workers, exif: recipe.exif, cache: recipe.cacheImages, maxBad: recipe.maxBad, knownBad: saved?.knownBad(source.length),
    augmentOn: recipe.augment === "gpu" ? device : undefined, copyTo: device,
  });
  const { stepsPerEpoch } = loader;

  torch.manualSeed(seed);
  const moco = createMoCo({
    encoder: recipe.encoder, imageSize: recipe.imageSize, patchSize: recipe.patchSize ?? undefined, stopGradConv1: recipe.stopGradConv1,
    dim: recipe.dim, mlpDim: recipe.mlpDim, temperature: recipe.temperature,
  });
  await using recorder = new RunRecorder(recipe.out, hooks);
  try {
    const facts: RunFacts = {
      arch: recipe.arch, seed, images: source.length, stepsPerEpoch, batchSize: recipe.batchSize,
      recipe: trainingFacts(recipe, moco.baseEncoder),
    };
    for (const difference of saved?.compare(facts) ?? []) hooks.onWarning?.(`not as in the run that is resumed: ${difference}`);
    using optimizer = createOptimizer(moco.to(device).parameters(), recipe);
    using scaler = new GradScaler({ enabled: recipe.precision === "fp16", device });
    using guard = new FiniteGuard(moco, scaler, recipe);
    const trainee: Trainee = { moco, optimizer, scaler };
    const autocast = createAutocast(recipe);
    const start: Position = saved?.position ?? { epoch: recipe.startEpoch, step: 0 };
    for (const note of initial === null ? [] : beginWith(moco, initial)) hooks.onWarning?.(note);
    initial?.dispose();
    for (const each of saved?.restore(trainee) ?? []) hooks.onWarning?.(`begins anew: ${each}`);
    saved?.dispose();

    if (start.epoch >= epochs) hooks.onWarning?.(`nothing is left to do: ${start.epoch} of ${epochs} epochs are done; ask for more epochs`);
    await recorder.start({ recipe, facts, start, resumedFrom: saved?.path ?? null, knownBad: loader.bad.length }, trainee);
    moco.train();

    let steps = 0;
    let lastLoss: number | null = null;
    let stop: "interrupted" | "stop-after" | null = null;
    training: for (let { epoch, step } = start; epoch < epochs; epoch++, step = 0) {
      for await (using batch of untilAborted(loader.epoch(epoch, step), hooks.signal)) {
        // Learning rate and momentum follow the fractional epoch.
        const progress = epoch + step / stepsPerEpoch;
        const lr = learningRateAt(progress, recipe);
        const m = recipe.mCos ? momentumAt(progress, { momentum: recipe.m, epochs }) : recipe.m;
        optimizer.setLearningRate(lr);
        const place = { step: epoch * stepsPerEpoch + step, epoch, stepInEpoch: step, lr };

        using computing = torch.openScope(); // a scope that spans an await
        const found = computing.run(() => {
          const [x1, x2] = batch.views; // each [N, 3, H, W]
          guard.remember();
          const output = autocast(() => moco.forward(x1, x2, m)); // moves the momentum encoder towards the base encoder
          scaler.scale(output).backward();
          scaler.unscale_(optimizer);
          return guard.look(output);
        });
        await found.arrive(); // a GPU computes meanwhile, and this thread sees to the next batches
        const { loss, gradientNorm } = guard.judge(found, place); // throws before a weight is touched
        computing.run(() => {
          scaler.step(optimizer);
          scaler.update();
          optimizer.zeroGrad(); // here, so that the next forward pass has their memory
        });
        computing.close();

        const { waitMs: dataWaitMs, indices } = batch;
        recorder.step({ ...place, loss, momentum: m, gradientNorm, scale: scaler.getScale(), dataWaitMs }, indices.length, loader.bad);
        lastLoss = loss;
        steps++;
        step++;
        await nextTurn(); // signals arrive in between
        const position = step < stepsPerEpoch ? { epoch, step } : { epoch: epoch + 1, step: 0 };
        if (position.epoch < epochs) stop = hooks.signal?.aborted ? "interrupted" : steps === recipe.stopAfter ? "stop-after" : null;
        if (stop || isSaveDue(recipe, position, stepsPerEpoch)) await recorder.save(position, loader.bad);
        if (stop) break training;
      }
      if (step < stepsPerEpoch) { // while it waited for images
        stop = "interrupted";
        if (steps > 0) await recorder.save({ epoch, step }, loader.bad);
        break;
      }
      if (probe?.isDue(epoch)) await recorder.judge(epoch, () => probe.judge(moco.baseEncoder, hooks.signal));
    }

    await recorder.flush();
    const reason = stop ?? "finished";
    recorder.end(reason);
    return { moco, reason, steps, loss: lastLoss, checkpoint: recorder.checkpoint, badImages: loader.bad, seconds: recorder.seconds };
  } catch (error) {
    recorder.end("failed", (error as Error).message);
    moco.dispose();
    throw error;
  }
}
