import { setImmediate as nextTurn } from "node:timers/promises";
import {
  drawMixing, isStream, mixImages, nameOf, openLabelledSplits, partOf, RandomStream, requireImages, requireLabels, supervisedRecipe, ViewLoader,
  type BadImage,
} from "../data/index.js";
import type { Encoder } from "../models/index.js";
import { clipGradients, fineTuningRateAt, GradScaler } from "../optim/index.js";
import type { EndEntry, EvaluationEntry } from "../report/index.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import type { Position } from "./runs/checkpointFiles.js";
import { newClassifier, savedClassifier, type Classifier } from "./finetuning/classifier.js";
import type { Evaluation } from "./evaluateClassifier.js";
import {
  createFinetuneOptimizer, evaluationInterpolation, finetuneFacts, resolveFinetuneOptions, scheduleEpoch, scheduleOf, type FinetuneOptions,
} from "./finetuning/finetuneOptions.js";
import { furtherEntries, restoreFinetuning, tellDifferences } from "./finetuning/finetuneState.js";
import { Ranks } from "./ranks/ranks.js";
import { evaluateTogether } from "./ranks/sharedEvaluation.js";
import { FiniteGuard } from "./runs/finiteGuard.js";
import { readEncoder } from "./initialWeights.js";
import { chooseKernels } from "./kernels.js";
import { ModelAverage } from "./finetuning/modelAverage.js";
import { createAutocast } from "./options.js";
import type { RunFacts } from "./runs/ownPart.js";
import { randomSeed } from "./pretrainOptions.js";
import { readToResume } from "./runs/resuming.js";
import { softTargetCrossEntropy, softTargets } from "./finetuning/softTargets.js";
import { SupervisedRecorder, type SupervisedHooks } from "./runs/supervisedRecorder.js";
import { SavedSupervised } from "./runs/supervisedState.js";
import { untilAborted } from "./runs/untilAborted.js";

/** What {@link finetune} has trained, and how good it is. */
export interface FinetuneResult {
  /** The trained classifier; the caller disposes of it. */
  model: Encoder;
  /** Names of the classes, in the order of the classifier's outputs. */
  classes: readonly string[];
  reason: Exclude<EndEntry["reason"], "failed">;
  /** Steps done by this call. */
  steps: number;
  /** Loss of the last step, or null without one. */
  loss: number | null;
  /** The last evaluation, or null without one. */
  evaluation: EvaluationEntry | null;
  /** Highest acc@1 of the whole run, in percent; 0 before the first evaluation. */
  bestAcc1: number;
  /** Path of the last checkpoint written, or null. */
  checkpoint: string | null;
  /** Images of either part that could not be read. */
  badImages: BadImage[];
  seconds: number;
}

/** Keys the random numbers of stochastic depth, beside those of the images and of mixing. */
const dropPathStream = 0x64726f70;

/**
 * Fine-tunes an image encoder end to end on labelled images, as upstream does with DeiT's recipes (Touvron et al., 2021): all weights, a new
 * linear classifier, mixup and CutMix, label smoothing, stochastic depth.
 *
 * With `out`, that folder gets `checkpoint.pth.tar` after each epoch, in DeiT's layout, so that PyTorch and timm open it; a copy of the one
 * with the highest accuracy, `model_best.pth.tar`; and a log of every step.
 *
 * With `group`, the processes share every batch: gradients are those of the whole of it, and BatchNorm's statistics too. Mixup and CutMix mix each
 * process's images with one another, as DeiT's program does, and stochastic depth draws for each of them.
 *
 * The same options and seed give the same weights, whatever the number of workers; a run that was stopped and resumed ends with the
 * weights, to the bit, of one that was not (for the same device and number of threads; on a GPU with `deterministic`).
 *
 * @throws OptionError; the errors of images, checkpoint and model, before training begins; NonFiniteError when it diverges
 * @example
 * const { model, bestAcc1 } = await finetune({ data: "flowers", pretrained: "vit-b-300ep.pth.tar", out: "runs/flowers" });
 */
export async function finetune(options: FinetuneOptions, hooks: SupervisedHooks = {}): Promise<FinetuneResult> {
  const recipe = resolveFinetuneOptions(options);
  const { device, epochs, smoothing } = recipe;
  using ranks = new Ranks(options.group, { maxBad: recipe.maxBad, signal: hooks.signal });
  torch.retainFreedMemory();
  using _ = chooseKernels(recipe);
  if (recipe.threads !== null) torch.setNumThreads(recipe.threads);

  // Images and checkpoint first: what is wrong with them shows before any time goes into a network.
  const { val: valPath, numClasses, images: length, shuffleBuffer } = options;
  const { classes, train, val } = await ranks.together(async () => {
    const splits = typeof options.data === "string" ? await openLabelledSplits(options.data, { val: valPath, numClasses, length, shuffleBuffer }) : options.data;
    requireImages(splits.train, recipe.batchSize);
    return { ...splits, val: splits.val && partOf(splits.val, ranks.rank, ranks.size) };
  });
  using saved = await ranks.together(() => readToResume(recipe, (path) => SavedSupervised.read(path), hooks.onWarning));
  using initial = await ranks.together(() => {
    return recipe.pretrained === null || saved !== null ? null : readEncoder(recipe.pretrained, { numHeads: recipe.numHeads ?? undefined });
  });
  const seed = ranks.shared(() => recipe.seed ?? saved?.facts?.seed ?? randomSeed());

  torch.manualSeed(seed);
  const build = (): Classifier => {
    return saved === null ? newClassifier(initial, { ...recipe, classes }) : savedClassifier(saved, { ...recipe, classes, train: true });
  };
  const { model, arch, imageSize, dropPath, notes } = await ranks.together(build);
  const judge = (network: Encoder): Promise<Evaluation | null> => evaluateTogether(network, val!, {
    ...recipe, numClasses: classes.length, imageSize, interpolation: evaluationInterpolation(recipe), signal: hooks.signal,
    onBatch: (done) => hooks.onEvaluationBatch?.(done, val!.length),
  }, ranks);
  await using recorder = new SupervisedRecorder(ranks.leads ? recipe.out : null, hooks);
  try {
    for (const note of notes) hooks.onWarning?.(note);
    await using loader = new ViewLoader<[Tensor]>(train, [supervisedRecipe(recipe.augmentation)], {
      batchSize: recipe.batchSize / ranks.size, rank: ranks.rank, worldSize: ranks.size, imageSize, seed, threads: recipe.workers, exif: recipe.exif, repeats: recipe.repeats,
      cache: recipe.cacheImages, maxBad: recipe.maxBad, knownBad: saved?.knownBad(train.length), copyTo: device === "cpu" ? undefined : device,
    });
    const { stepsPerEpoch } = loader;
    const facts: RunFacts = {
      arch, seed, images: train.length, stepsPerEpoch, batchSize: recipe.batchSize, recipe: finetuneFacts(recipe, imageSize, dropPath),
    };
    for (const each of tellDifferences(saved, facts)) hooks.onWarning?.(`not as in the run that is resumed: ${each}`);
    using optimizer = createFinetuneOptimizer(model.to(device), recipe);
    using scaler = new GradScaler({ enabled: recipe.precision === "fp16", device });
    using guard = new FiniteGuard(model, scaler, recipe);
    using average = recipe.averageDecay === null ? null : new ModelAverage(model, build().model.to(device), recipe.averageDecay);
    const autocast = createAutocast(recipe);
    const start: Position = saved?.position ?? { epoch: 0, step: 0 };
    const afresh = saved === null ? [] : restoreFinetuning(saved, { model, optimizer, scaler, average });
    for (const each of afresh) hooks.onWarning?.(`begins anew: ${each}`);
    const bestAcc1 = saved?.bestAcc1 ?? 0;
    saved?.dispose();
    initial?.dispose();

    if (val === null) hooks.onWarning?.("there are no images to judge by, so nothing is evaluated: add val/ beside train/, or give some (val, --val)");
    if (start.epoch >= epochs) hooks.onWarning?.(`nothing is left to do: ${start.epoch} of ${epochs} epochs are done; ask for more epochs`);
    const run = { facts, device, epochs, start, resumedFrom: saved?.path ?? null, bestAcc1, classes, background: recipe.saveInBackground, layout: "deit" as const };
    ranks.begin(facts, loader.bad);
    ranks.joinNetwork(model);
    await ranks.together(() => recorder.start({
      ...run, knownBad: loader.bad.length, options: { ...recipe, arch, imageSize, dropPath, seed }, further: () => furtherEntries(scaler, average),
    }, { model, optimizer }));

    let steps = 0;
    let lastLoss: number | null = null;
    let evaluation: EvaluationEntry | null = null;
    let stop: "interrupted" | "stop-after" | null = null;
    model.train();
    // False where it was interrupted.
    const evaluate = async (epoch: number): Promise<boolean> => {
      if (val === null) return true;
      const found = await judge(model);
      const ofAverage = found === null || average === null ? null : await judge(average.network);
      if (found === null || (average !== null && ofAverage === null)) return false;
      evaluation = recorder.evaluated(epoch, found, ofAverage);
      return true;
    };

    for (let { epoch, step } = start; epoch < epochs && stop === null; epoch++, step = 0) {
      for await (using batch of untilAborted(loader.epoch(epoch, step), ranks.ownStop)) {
        const lr = fineTuningRateAt(scheduleEpoch(recipe, epoch, step, stepsPerEpoch), scheduleOf(recipe));
        optimizer.setLearningRate(lr);
        const place = { step: epoch * stepsPerEpoch + step, epoch, stepInEpoch: step, lr };
        const labels = requireLabels(batch.labels, classes.length, (row) => {
          return isStream(train) ? `image ${batch.indices[row]}` : nameOf(train, batch.indices[row]!);
        });

        using computing = torch.openScope(); // a scope that spans an await
        ranks.beginStep(place.step);
        const found = computing.run(() => {
          const [images] = batch.views; // [N, 3, H, W], of this rank
          const target = torch.tensor(labels, undefined, { dtype: "int64", device }); // [N]
          const mixing = drawMixing(recipe.mixing, { seed, epoch, step }, imageSize);
          const mixed = mixing === null ? images : mixImages(images, mixing);
          const targets = softTargets(target, { numClasses: classes.length, smoothing, lambda: mixing?.lambda }); // [N, classes]
          // Keyed by step and rank, so that a run goes on exactly without a GPU's generator in its checkpoint.
          if (dropPath > 0) torch.manualSeed(new RandomStream({ seed, epoch, index: step, stream: dropPathStream + ranks.rank }).uint32());
          guard.remember();
          const logits = autocast(() => model.forward(mixed)); // [N, classes]
          const output = softTargetCrossEntropy(logits, targets);
          ranks.prepare();
          scaler.scale(output).backward();
          scaler.unscale_(optimizer);
          const [ofAll] = ranks.agree([output], loader.bad); // the same number on all ranks, so the same verdict
          return guard.look(ofAll!.to(output.dtype));
        });
        await found.arrive(); // a GPU computes meanwhile, and this thread sees to the next batches
        const { loss, gradientNorm } = guard.judge(found, place); // throws before a weight is touched
        computing.run(() => {
          if (recipe.clipGrad !== null) clipGradients(optimizer.parameters(), gradientNorm, recipe.clipGrad);
          scaler.step(optimizer);
          scaler.update();
          optimizer.zeroGrad();
          average?.update();
        });
        computing.close();

        const { waitMs: dataWaitMs, indices } = batch;
        const bad = ranks.settle(loader.bad);
        recorder.step({ ...place, loss, gradientNorm, scale: scaler.getScale(), dataWaitMs }, indices.length * ranks.size, bad, batch.views);
        lastLoss = loss;
        steps++;
        step++;
        await nextTurn(); // signals arrive in between
        stop = ranks.stopWanted ? "interrupted" : steps === recipe.stopAfter ? "stop-after" : null;
        if (stop !== null && step < stepsPerEpoch) break; // an epoch's last step is followed by its evaluation
      }
      const isTrained = step === stepsPerEpoch;
      if (!isTrained || !(await evaluate(epoch))) {
        if (isTrained) stop = "interrupted"; // while it evaluated
        stop ??= "interrupted"; // while it waited for images
        if (steps > 0) await recorder.save({ epoch, step }, ranks.bad(loader.bad)); // at the epoch's end: trained, and to be evaluated
        break;
      }
      await recorder.save({ epoch: epoch + 1, step: 0 }, ranks.bad(loader.bad));
      if (epoch + 1 === epochs) stop = null;
    }
    await ranks.lead(() => recorder.flush());
    const reason = stop ?? "finished";
    recorder.end(reason);
    const badImages = [...ranks.bad(loader.bad), ...recorder.badEvaluated.values()];
    const { checkpoint, bestAcc1: best, seconds } = recorder;
    return { model, classes, reason, steps, loss: lastLoss, evaluation, bestAcc1: best, checkpoint, badImages, seconds };
  } catch (error) {
    recorder.end("failed", (error as Error).message);
    model.dispose();
    throw error;
  }
}
