// What the ranks of upstreamRanks.test.ts do.
import type { ProcessGroup } from "../../../lib/distributed/index.js";
import { Ranks } from "../../../lib/train/ranks/ranks.js";
import { SavedTraining } from "../../../lib/train/runs/trainingState.js";
import { buildTrainee, disposeTrainee, trainEpochs, valuesOf, type TinyTraining } from "./tinyTraining.js";

/** Losses of this rank, and what all have in the end, by upstream's names. */
export interface RankOutcome {
  losses: number[];
  values: [key: string, values: number[]][];
}

/** Goes on with a checkpoint, each rank with its part of every batch. */
export async function goOn(group: ProcessGroup, { path, training, epochs }: { path: string; training: TinyTraining; epochs: [number, number] }): Promise<RankOutcome> {
  const trainee = buildTrainee(training, "float64");
  using ranks = new Ranks(group, { maxBad: 0 });
  if (ranks.leads) {
    using saved = await SavedTraining.read(path);
    saved.restore(trainee);
  }
  ranks.join(trainee);
  const losses = trainEpochs(trainee, training, ...epochs, "float64", ranks);
  const values = [...valuesOf(trainee)].map(([key, values]): [string, number[]] => [key, [...values]]);
  disposeTrainee(trainee);
  return { losses, values };
}
