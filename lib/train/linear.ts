import { setImmediate as nextTurn } from "node:timers/promises";
import { LabelledDataError, openLabelledSplits, partOf, type BadImage, type LabelledSplits } from "../data/index.js";
import type { Encoder } from "../models/index.js";
import type { EndEntry } from "../report/index.js";
import * as torch from "../torch/index.js";
import type { Position } from "./runs/checkpointFiles.js";
import type { Evaluation } from "./evaluateClassifier.js";
import { FeatureExtractor } from "./features.js";
import { requireFrozen } from "./linearProbe/frozenWeights.js";
import { HeadRace, HEADS_KEY, type HeadResult } from "./linearProbe/headRace.js";
import { LinearHeads } from "./linearProbe/linearHeads.js";
import { probeFacts, resolveLinearOptions, type LinearProbeOptions, type LinearRecipe } from "./linearProbe/linearOptions.js";
import { CachedBatches, CroppedBatches, validationFeatures, type ProbeBatches, type ProbeData, type ValidationFeatures } from "./linearProbe/probeBatches.js";
import { inputSize, openProbe } from "./linearProbe/probeModel.js";
import { SharedBatches } from "./linearProbe/sharedBatches.js";
import { randomSeed } from "./pretrainOptions.js";
import { Ranks } from "./ranks/ranks.js";
import { evaluateTogether } from "./ranks/sharedEvaluation.js";
import { SupervisedRecorder, type SupervisedHooks } from "./runs/supervisedRecorder.js";
import type { SupervisedTrainee } from "./runs/supervisedState.js";
import { untilAborted } from "./runs/untilAborted.js";

/** What a caller hears, and can say, while a linear probe runs. */
export interface LinearProbeHooks extends SupervisedHooks {
  /** While features that stay the same are computed: how many of how many images are done. */
  onFeatures?(done: number, images: number, part: "train" | "val"): void;
}

/** What {@link linearProbe} has trained, and how good it is. */
export interface LinearProbeResult {
  /** The frozen encoder with its classifier, in evaluation mode; the caller disposes of it. */
  model: Encoder;
  /** Names of the classes, in the order of the classifier's outputs. */
  classes: readonly string[];
  reason: Exclude<EndEntry["reason"], "failed">;
  /** Steps done by this call. */
  steps: number;
  /** After the last epoch; null where none was evaluated. */
  evaluation: Omit<Evaluation, "bad"> | null;
  /** Highest acc@1 after any epoch, in percent. */
  bestAcc1: number;
  /** Every classifier of a sweep, or the only one. */
  heads: HeadResult[];
  /** Path of the last checkpoint written, or null. */
  checkpoint: string | null;
  badImages: BadImage[];
  seconds: number;
}

/**
 * Judges an encoder by how well a linear classifier of its frozen features does, as upstream's `main_lincls.py`: SGD, random crops and
 * flips, half a cosine cycle of the learning rate, and after each epoch acc@1 and acc@5 on the validation images.
 *
 * With `out`, that folder gets `checkpoint.pth.tar` after each epoch and `model_best.pth.tar`, with upstream's keys, and a log.
 *
 * The encoder stays in evaluation mode and is not changed; that is checked after the first epoch. So the validation images have the same
 * features in every epoch, and these are computed once. The same options and seed give the same weights, also of a run that was stopped
 * and resumed.
 *
 * @throws OptionError; the errors of images, checkpoint and model, before training begins; FeatureError for features that are not finite,
 * NonFiniteError when the classifier diverges
 * @example
 * const { model, evaluation } = await linearProbe({ data: "imagenet", pretrained: "vit-s-300ep.pth.tar", baseLr: 3, epochs: 90 });
 * console.log(evaluation?.acc1);
 * model.dispose();
 */
export async function linearProbe(options: LinearProbeOptions, hooks: LinearProbeHooks = {}): Promise<LinearProbeResult> {
  const recipe = resolveLinearOptions(options);
  const { device, epochs } = recipe;
  using ranks = new Ranks(options.group, { maxBad: recipe.maxBad, signal: hooks.signal });
  torch.retainFreedMemory();
  if (recipe.threads !== null) torch.setNumThreads(recipe.threads);

  // Images and checkpoints first: what is wrong with them shows before any time goes into features.
  const { classes, train, val: allVal } = await ranks.together(() => openSplits(options.data, recipe));
  const val = partOf(allVal, ranks.rank, ranks.size);
  const numClasses = Math.max(recipe.numClasses ?? 0, classes.length);
  recipe.seed ??= recipe.resume === null ? ranks.shared(randomSeed) : null;
  using start = await ranks.together(() => openProbe(recipe, hooks.onWarning));
  const { arch, saved } = start;
  const seed = ranks.shared(() => start.seed);
  const encoder = start.encoder.to(device);
  for (const parameter of encoder.parameters()) parameter.requiresGrad_(false);
  torch.manualSeed(seed);
  const heads = new LinearHeads({ ...recipe, featureDim: encoder.featureDim, numClasses });
  const race = new HeadRace(heads);
  // The model that is saved has the classifier that is ahead; without a sweep there is only one.
  const trainee: SupervisedTrainee = { model: encoder, optimizer: race.leader.optimizer };
  const lead = (): void => {
    encoder.head = race.leader.linear;
    trainee.optimizer = race.leader.optimizer;
  };
  lead();
  await using recorder = new SupervisedRecorder(recipe.evaluate || !ranks.leads ? null : recipe.out, hooks);
  try {
    const extractor = new FeatureExtractor(encoder, {
      imageSize: inputSize(encoder, recipe.imageSize), batchSize: device === "cpu" ? 64 : 256, device, precision: recipe.precision,
    });
    const data: ProbeData = { source: train, classes, extractor, recipe, seed };
    const told = (part: "train" | "val") => (done: number, images: number) => hooks.onFeatures?.(done, images, part);
    const notes = [...start.notes, ...(saved?.compareClasses(encoder.headKey, numClasses, classes) ?? [])];
    const result = (reason: LinearProbeResult["reason"], facts: Pick<LinearProbeResult, "steps" | "evaluation" | "badImages">): LinearProbeResult => {
      const { bestAcc1, checkpoint, seconds } = recorder;
      heads.release(encoder.head);
      return { model: encoder, classes, reason, ...facts, bestAcc1, heads: race.results, checkpoint, seconds };
    };

    if (recipe.evaluate) {
      if (saved === null) notes.push("the classifier is new and has learned nothing: give its checkpoint with --resume");
      for (const note of [...notes, ...(saved?.restore({ model: encoder, optimizer: null }) ?? [])]) hooks.onWarning?.(note);
      const evaluation = await evaluateTogether(encoder, val, {
        ...recipe, numClasses: classes.length, batchSize: undefined, imageSize: extractor.imageSize, signal: hooks.signal,
        onBatch: (done) => hooks.onEvaluationBatch?.(done, val.length),
      }, ranks);
      return result(evaluation === null ? "interrupted" : "finished", { steps: 0, evaluation, badImages: evaluation?.bad ?? [] });
    }

    await using batches: ProbeBatches | null = recipe.cacheFeatures
      ? await CachedBatches.create(data, told("train"), hooks.signal)
      : shared(new CroppedBatches(data, saved?.knownBad(train.length), ranks), ranks, recipe);
    if (batches === null) return result("interrupted", { steps: 0, evaluation: null, badImages: [] });
    const { stepsPerEpoch } = batches;
    const facts = {
      arch, seed, images: batches.images, stepsPerEpoch, batchSize: recipe.batchSize,
      recipe: probeFacts(recipe, encoder, extractor.imageSize, numClasses),
    };
    for (const difference of saved?.compare(facts) ?? []) notes.push(`not as in the run that is resumed: ${difference}`);
    for (const each of saved?.restore(trainee) ?? []) notes.push(`begins anew: ${each}`);
    if (saved !== null) notes.push(...race.restore(saved.path, saved.value[HEADS_KEY]));
    lead();
    const from: Position = saved?.position ?? { epoch: recipe.pretrained === null ? recipe.startEpoch : 0, step: 0 };
    if (saved === null && recipe.startEpoch > from.epoch) notes.push("a classifier of a pretrained encoder begins with epoch 0, whatever the start epoch");
    const [resumedFrom, bestAcc1] = [saved?.path ?? null, saved?.bestAcc1 ?? 0];
    saved?.dispose();
    if (from.epoch >= epochs) notes.push(`nothing is left to do: ${from.epoch} of ${epochs} epochs are done; ask for more epochs`);
    for (const note of notes) hooks.onWarning?.(note);
    ranks.begin(facts, batches.bad);
    await recorder.start({
      facts, options: { data: typeof options.data === "string" ? options.data : null, ...recipe, arch, seed, numClasses }, device, epochs,
      start: from, resumedFrom, bestAcc1, knownBad: recipe.cacheFeatures ? 0 : batches.bad.length, classes,
      background: recipe.saveInBackground, further: () => ({ [HEADS_KEY]: race.state() }),
    }, trainee);

    using judged = new Judged(() => validationFeatures({ ...data, source: val }, told("val"), hooks.signal));
    let steps = 0;
    let evaluation: Omit<Evaluation, "bad"> | null = null;
    let stop: "interrupted" | "stop-after" | null = null;
    const wish = (): typeof stop => (ranks.stopWanted ? "interrupted" : steps === recipe.stopAfter ? "stop-after" : null);

    for (let { epoch, step } = from; epoch < epochs && stop === null; epoch++, step = 0) {
      for await (using batch of untilAborted(batches.epoch(epoch, step), ranks.ownStop)) {
        const place = { step: epoch * stepsPerEpoch + step, epoch, stepInEpoch: step };
        ranks.beginStep(place.step);
        const done = heads.step(batch.features, batch.labels, place); // the encoder has no graph; each classifier takes its step
        recorder.step({ ...place, ...done, scale: 1, dataWaitMs: batch.waitMs }, batch.labels.length, batches.bad);
        steps++;
        step++;
        await nextTurn(); // signals arrive in between
        if (step < stepsPerEpoch) stop = wish(); // an epoch's last step is followed by its evaluation
        if (stop !== null) break;
      }
      if (step < stepsPerEpoch) stop ??= "interrupted"; // while it waited for images
      const own = stop === null ? await judged.features() : null;
      const validation = stop === null && ranks.any(own === null) ? null : own;
      if (validation === null) {
        stop ??= "interrupted";
        await recorder.save({ epoch, step }, batches.moved);
        break;
      }
      evaluation = race.evaluate(epoch, validation.matrix, (own) => ranks.sums(own));
      lead();
      recorder.evaluated(epoch, { ...evaluation, bad: ranks.listOfAll(validation.bad) });
      await recorder.save({ epoch: epoch + 1, step: 0 }, batches.moved);
      // As upstream, after the first epoch: later ones do nothing else.
      if (epoch === from.epoch && recipe.pretrained !== null) await ranks.together(() => requireFrozen(encoder, recipe.pretrained!));
      if (epoch + 1 < epochs) stop = wish();
    }

    await ranks.lead(() => recorder.flush());
    recorder.end(stop ?? "finished");
    return result(stop ?? "finished", { steps, evaluation, badImages: [...batches.bad, ...recorder.badEvaluated.values()] });
  } catch (error) {
    recorder.end("failed", (error as Error).message);
    heads.release(null);
    encoder.dispose();
    throw error;
  }
}

/** A rank's part of the batches as the whole of them. */
function shared(own: ProbeBatches, ranks: Ranks, { batchSize }: LinearRecipe): ProbeBatches {
  return ranks.size === 1 ? own : new SharedBatches(own, ranks, batchSize);
}

/** Features of the validation images, which are computed when they are first asked for. */
class Judged implements Disposable {
  #features: ValidationFeatures | null = null;

  constructor(private readonly compute: () => Promise<ValidationFeatures | null>) {}

  async features(): Promise<ValidationFeatures | null> {
    return (this.#features ??= await this.compute());
  }

  [Symbol.dispose](): void {
    this.#features?.[Symbol.dispose]();
  }
}

async function openSplits(data: string | LabelledSplits, recipe: LinearRecipe): Promise<LabelledSplits & { val: NonNullable<LabelledSplits["val"]> }> {
  const options = {
    val: recipe.val ?? undefined, numClasses: recipe.numClasses ?? undefined, length: recipe.images ?? undefined,
    shuffleBuffer: recipe.shuffleBuffer ?? undefined,
  };
  const { val, ...rest } = typeof data === "string" ? await openLabelledSplits(data, options) : data;
  if (val !== null) return { ...rest, val };
  const of = typeof data === "string" ? `${data} has` : "there are";
  throw new LabelledDataError(`${of} no images to judge by; put them into a folder val/ beside train/, with the same classes, or give them with --val`);
}
