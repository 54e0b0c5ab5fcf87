import { OrderedDict } from "../../checkpoint/index.js";
import type { Encoder } from "../../models/index.js";
import type { GradScaler, Optimizer, ScalingState } from "../../optim/index.js";
import type { Tensor } from "../../torch/index.js";
import { savedAverage } from "./classifier.js";
import type { ModelAverage } from "./modelAverage.js";
import type { RunFacts } from "../runs/ownPart.js";
import { ResumeError } from "../runs/resumable.js";
import { runDifferences } from "../runs/runDifferences.js";
import type { SavedSupervised } from "../runs/supervisedState.js";

/** What a fine-tuning is made of besides its data. */
export interface FinetuneTrainee {
  model: Encoder;
  optimizer: Optimizer;
  scaler: GradScaler;
  /** Null where the weights are not averaged. */
  average: ModelAverage<Encoder> | null;
}

/** What the checkpoint of a fine-tuning holds besides the entries of every training with labels, under DeiT's keys. */
export interface FurtherEntries {
  scaler: ScalingState;
  /** Moving average of the weights. */
  model_ema?: OrderedDict<string, Tensor>;
}

export function furtherEntries(scaler: GradScaler, average: ModelAverage<Encoder> | null): Record<string, unknown> {
  const entries: FurtherEntries = { scaler: scaler.resumableState() };
  if (average !== null) entries.model_ema = new OrderedDict(average.network.stateDict());
  return { ...entries };
}

/** Options that a saved optimiser's groups bring along, as in PyTorch. */
const KEPT = /^(decay|layerDecay) /;

/**
 * Compares a saved run with the one that should go on.
 *
 * @returns what differs, in words
 * @throws ResumeError where going on makes no sense
 */
export function tellDifferences(saved: SavedSupervised | null, facts: RunFacts): string[] {
  if (saved === null) return [];
  const { path, arch, position } = saved;
  const [before, now] = [saved.facts?.recipe.layerDecay, facts.recipe.layerDecay].map((each) => Number(each ?? 1));
  if (before !== now && (before === 1 || now === 1)) {
    throw new ResumeError(
      `layerDecay was ${before} in the run of ${path} and is ${now}; the optimiser's groups differ, so give ${before} again (--layer-decay)`,
    );
  }
  const differences = runDifferences({ path, arch, position, facts: saved.facts, optimizer: null }, facts);
  return differences.map((each) => (KEPT.test(each) ? `${each.replace(/^decay/, "weightDecay")}, which the saved optimiser keeps` : each));
}

/**
 * Copies a saved state into a run that was built like the saved one.
 *
 * @returns what the file does not have and so begins anew, in words
 * @throws StateDictError or OptimizerStateError where it does not fit
 */
export function restoreFinetuning(saved: SavedSupervised, { model, optimizer, scaler, average }: FinetuneTrainee): string[] {
  const afresh = saved.restore({ model, optimizer, scaler });
  if (average !== null) {
    const state = savedAverage(saved);
    average.network.loadStateDict(state ?? model.stateDict());
    if (state === null) afresh.push("the average of the weights, at the present ones (the file has none)");
  }
  return afresh;
}
