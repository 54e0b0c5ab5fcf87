/** One rank of tiny trainings, one after the other in a process of its own: tells as JSON how they went. */
import { createHash } from "node:crypto";
import { ProcessGroup, type Placement } from "../../lib/distributed/index.js";
import { pretrain } from "../../lib/train/pretrain.js";
import type { PretrainOptions } from "../../lib/train/pretrainOptions.js";
import { memorySource } from "../data/pixels.js";
import { tinyOptions } from "../train/tinyRun.js";

/** One training, as a rank is told of it. */
export interface TinyJob {
  options: Partial<PretrainOptions>;
  /** Images of the data set that cannot be read. */
  bad?: number[];
  images?: number;
  /** This rank wants to stop once so many steps are done. */
  abortAfter?: number;
}

export interface TinyOutcome {
  rank: number;
  error: { name: string; message: string } | null;
  reason: string | null;
  losses: number[];
  imagesPerStep: number[];
  badImages: number[];
  told: string[];
  warnings: string[];
  knn: number;
  checkpoint: string | null;
  seed: unknown;
  weights: string | null;
}

const { placement, jobs } = JSON.parse(process.argv[2]!) as { placement: Placement; jobs: TinyJob[] };
using group = placement.worldSize === 1 ? undefined : await ProcessGroup.join(placement);
const outcomes: TinyOutcome[] = [];
for (const job of jobs) outcomes.push(await train(job));
process.stdout.write(JSON.stringify(outcomes));

async function train({ options, abortAfter, bad = [], images = 13 }: TinyJob): Promise<TinyOutcome> {
  const outcome: TinyOutcome = {
    rank: placement.rank, error: null, reason: null, losses: [], imagesPerStep: [], badImages: [], told: [], warnings: [], knn: 0, checkpoint: null,
    seed: null, weights: null,
  };
  const stop = new AbortController();
  try {
    const result = await pretrain({ ...tinyOptions, data: memorySource(images, bad), ...options, group }, {
      signal: stop.signal,
      onStart: (run) => void (outcome.seed = run.options.seed),
      onStep: ({ loss, imagesPerSecond, stepMs }) => {
        outcome.losses.push(loss);
        outcome.imagesPerStep.push(Math.round((imagesPerSecond * stepMs) / 1000));
        if (outcome.losses.length === abortAfter) stop.abort("SIGTERM");
      },
      onBadImage: ({ name }) => void outcome.told.push(name),
      onWarning: (message) => void outcome.warnings.push(message),
      onKnn: () => void outcome.knn++,
    });
    outcome.reason = result.reason;
    outcome.badImages = result.badImages.map(({ index }) => index);
    outcome.checkpoint = result.checkpoint;
    const hash = createHash("sha256");
    for (const tensor of result.moco.stateDict().values()) hash.update(tensor.bytes());
    outcome.weights = hash.digest("hex");
    result.moco.dispose();
  } catch (error) {
    const { name, message } = error as Error;
    outcome.error = { name, message };
  }
  return outcome;
}
