import { setImmediate as nextTurn } from "node:timers/promises";
import { openImages, requireImages, TwoViewLoader, type BadImage } from "../data/index.js";
import { createMoCo, type MoCo } from "../moco/index.js";
import { GradScaler, learningRateAt, momentumAt } from "../optim/index.js";
import type { EndEntry, KnnEntry, RunEntry, StepEntry } from "../report/index.js";
import * as torch from "../torch/index.js";
import type { Position } from "./runs/checkpointFiles.js";
import { beginWith, readEncoder } from "./initialWeights.js";
import { chooseKernels } from "./kernels.js";
import { isJudgementDue, KnnProbe } from "./neighbours/knnProbe.js";
import {
  createOptimizer, isSaveDue, randomSeed, resolveOptions, trainingFacts, type PretrainOptions,
} from "./pretrainOptions.js";
import { Ranks } from "./ranks/ranks.js";
import { readToResume } from "./runs/resuming.js";
import { RunRecorder } from "./runs/runRecorder.js";
import { SavedTraining, type RunFacts, type Trainee } from "./runs/trainingState.js";
import { untilAborted } from "./runs/untilAborted.js";
import { StepWatch } from "./stability/stepWatch.js";
import { chunkedLoading, computingType, createTrainingStep } from "./trainingStep.js";

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
  /** Once aborted, the run finishes its step (with `microBatch` its chunk), or leaves off waiting for images, saves and returns. */
  signal?: AbortSignal;
}

/** What {@link pretrain} has done. */ export interface PretrainResult {
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
 * @throws OptionError; the errors of images, checkpoint and model, before training begins; NonFiniteError when it diverges; SpikeLimitError
 * @example
 * const { moco } = await pretrain(
 *   { data: "photos", encoder: "vit_small", optimizer: "adamw", baseLr: 1.5e-4, weightDecay: 0.1, temperature: 0.2, batchSize: 256 },
 *   { onStep: ({ step, loss }) => console.log(step, loss) },
 * );
 */
export async function pretrain(options: PretrainOptions, hooks: PretrainHooks = {}): Promise<PretrainResult> {
  const recipe = resolveOptions(options);
  const { device, epochs } = recipe;
  using ranks = new Ranks(options.group, { maxBad: recipe.maxBad, signal: hooks.signal });
  torch.retainFreedMemory();
  using _ = chooseKernels(recipe);
  if (recipe.threads !== null) torch.setNumThreads(recipe.threads);

  // Images and checkpoint first: what is wrong with them shows before any time goes into a network.
  const { images: length, shuffleBuffer } = options;
  const source = await ranks.together(async () => {
    const opened = typeof options.data === "string" ? await openImages(options.data, { length, shuffleBuffer }) : options.data;
    requireImages(opened, recipe.batchSize);
    return opened;
  });
  const probe = await ranks.lead(() => KnnProbe.open(options.data, recipe));
  using saved = await ranks.lead(() => readToResume(recipe, (path) => SavedTraining.read(path), hooks.onWarning));
  using initial = await ranks.lead(() => (recipe.init === null || saved !== null ? null : readEncoder(recipe.init)));
  const { seed, start, knownBad } = ranks.shared(() => ({
    seed: recipe.seed ?? saved?.facts?.seed ?? randomSeed(),
    start: saved?.position ?? { epoch: recipe.startEpoch, step: 0 } satisfies Position,
    knownBad: saved?.knownBad(source.length),
  }));
  await using loader = new TwoViewLoader(source, {
    batchSize: recipe.batchSize / ranks.size, imageSize: recipe.imageSize, cropMin: recipe.cropMin, augmentation: recipe.augmentation ?? {},
    seed, rank: ranks.rank, worldSize: ranks.size, threads: recipe.workers, exif: recipe.exif, cache: recipe.cacheImages, maxBad: recipe.maxBad,
    knownBad, augmentOn: recipe.augment === "gpu" ? device : undefined, copyTo: device, ...chunkedLoading(recipe),
  });
  const { stepsPerEpoch } = loader;

  torch.manualSeed(seed);
  const moco = createMoCo({
    encoder: recipe.encoder, imageSize: recipe.imageSize, patchSize: recipe.patchSize ?? undefined, stopGradConv1: recipe.stopGradConv1,
    dim: recipe.dim, mlpDim: recipe.mlpDim, temperature: recipe.temperature,
  });
  await using recorder = new RunRecorder(ranks.leads ? recipe.out : null, hooks);
  try {
    const facts: RunFacts = {
      arch: recipe.arch, seed, images: source.length, stepsPerEpoch, batchSize: recipe.batchSize,
      recipe: trainingFacts(recipe, moco.baseEncoder),
    };
    using optimizer = createOptimizer(moco.to(device).to(computingType(recipe)).parameters(), recipe);
    using scaler = new GradScaler({ enabled: recipe.precision === "fp16", device });
    using watch = new StepWatch({ moco, optimizer, scaler }, ranks.leads ? recipe : { ...recipe, out: null }, {
      facts, source, warn: (warning) => recorder.warn(warning),
    });
    const trainee: Trainee = { moco, optimizer, scaler, watch };
    await ranks.lead(() => {
      for (const difference of saved?.compare(facts) ?? []) hooks.onWarning?.(`not as in the run that is resumed: ${difference}`);
      for (const note of initial === null ? [] : beginWith(moco, initial)) hooks.onWarning?.(note);
      initial?.dispose();
      for (const each of saved?.restore(trainee) ?? []) hooks.onWarning?.(`begins anew: ${each}`);
      saved?.dispose();
    });
    ranks.begin(facts, loader.bad);
    ranks.join(trainee); // all have what the first one has
    using trainingStep = createTrainingStep(trainee, recipe, {
      watch, averaging: ranks, onWarning: hooks.onWarning, shouldStop: () => ranks.any(hooks.signal?.aborted === true),
      agree: (numbers) => ranks.agree(numbers, loader.bad), // the same numbers on all ranks, so the same verdict
    });

    if (start.epoch >= epochs) hooks.onWarning?.(`nothing is left to do: ${start.epoch} of ${epochs} epochs are done; ask for more epochs`);
    await ranks.together(() =>
      recorder.start({ recipe, facts, start, resumedFrom: saved?.path ?? null, knownBad: loader.bad.length }, trainee));
    moco.train();

    let steps = 0;
    let lastLoss: number | null = null;
    let stop: "interrupted" | "stop-after" | null = null;
    training: for (let { epoch, step } = start; epoch < epochs; epoch++, step = 0) {
      for await (using batch of untilAborted(loader.epoch(epoch, step), ranks.ownStop)) {
        // Learning rate and momentum follow the fractional epoch.
        const progress = epoch + step / stepsPerEpoch;
        const lr = learningRateAt(progress, recipe);
        const m = recipe.mCos ? momentumAt(progress, { momentum: recipe.m, epochs }) : recipe.m;
        optimizer.setLearningRate(lr);
        const place = { step: epoch * stepsPerEpoch + step, epoch, stepInEpoch: step, lr };

        using computing = torch.openScope(); // a scope that spans an await
        watch.begin(place.step);
        ranks.beginStep(place.step);
        // The momentum encoder moves towards the base encoder; then loss, gradients and what is to be known about them.
        const found = await trainingStep.compute(batch.views, m, computing);
        if (found === null) {
          stop = "interrupted"; // in the middle of a step in chunks, which is then as if it had not begun
          await recorder.save({ epoch, step }, ranks.bad(loader.bad));
          break training;
        }
        await found.arrive(); // a GPU computes meanwhile, and this thread sees to the next batches
        const verdict = await watch.judge(found, { ...place, momentum: m, batch, bad: ranks.bad(loader.bad) }); // throws before a weight is touched
        computing.run(() => {
          if (verdict.action === undefined) trainingStep.update();
          optimizer.zeroGrad(); // here, so that the next forward pass has their memory
        });
        computing.close();

        const bad = ranks.settle(loader.bad);
        const images = batch.indices.length * ranks.size;
        recorder.step({ ...place, ...verdict, momentum: m, scale: scaler.getScale(), dataWaitMs: batch.waitMs }, images, bad, batch.views);
        lastLoss = verdict.loss;
        steps++;
        step++;
        await nextTurn(); // signals arrive in between
        const position = step < stepsPerEpoch ? { epoch, step } : { epoch: epoch + 1, step: 0 };
        if (position.epoch < epochs) stop = ranks.stopWanted ? "interrupted" : steps === recipe.stopAfter ? "stop-after" : null;
        if (stop || isSaveDue(recipe, position, stepsPerEpoch)) await recorder.save(position, bad);
        if (stop) break training;
      }
      if (step < stepsPerEpoch) { // while it waited for images
        stop = "interrupted";
        if (steps > 0) await recorder.save({ epoch, step }, loader.bad);
        break;
      }
      if (isJudgementDue(recipe, epoch)) {
        await ranks.waitForLead(() => recorder.judge(epoch, () => probe!.judge(moco.baseEncoder, hooks.signal)));
      }
    }

    await ranks.lead(() => recorder.flush());
    const reason = stop ?? "finished";
    recorder.end(reason);
    return { moco, reason, steps, loss: lastLoss, checkpoint: recorder.checkpoint, badImages: ranks.bad(loader.bad), seconds: recorder.seconds };
  } catch (error) {
    recorder.end("failed", (error as Error).message);
    moco.dispose();
    throw error;
  }
}
