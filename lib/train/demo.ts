import { EmojiDrawings } from "../data/datasets/emojiDrawings.js";
import { VisionTransformer, type Encoder } from "../models/index.js";
import type { DemoFigures } from "../report/demoFigures.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { FeatureExtractor } from "./features.js";
import { knnAccuracy, nearestNeighbours, recallAt } from "./neighbours/knn.js";
import { pretrain, type PretrainHooks } from "./pretrain.js";
import type { PretrainOptions } from "./pretrainOptions.js";

/**
 * The demo's network: a ViT of four blocks on 48-pixel views. The convolutional stem gives it 9 patch tokens, which makes an epoch cheap, and
 * learns faster than a linear patch projection.
 */
const demoEncoder = { imageSize: 48, embedDim: 96, depth: 4, numHeads: 3, stem: "conv" } as const;

/**
 * The paper's recipe for a ViT, adapted to drawings and to minutes. Crops keep at least half of a drawing, which has no background to lose;
 * without blur and solarize, which hide its few details; the momentum encoder follows faster, as there are few steps.
 */
const demoRecipe = {
  imageSize: 48,
  dim: 128,
  mlpDim: 512,
  temperature: 0.2,
  optimizer: "adamw",
  lr: 3e-3,
  weightDecay: 0.1,
  warmupEpochs: 1.5,
  m: 0.95,
  mCos: true,
  batchSize: 128,
  cropMin: 0.5,
  augmentation: { blurProbability: 0, solarizeProbability: 0 },
  cacheImages: true,
  device: "cpu",
  precision: "fp32",
} as const satisfies Partial<PretrainOptions>;

export interface DemoOptions {
  seed?: number;
  epochs?: number;
  threads?: number;
  /** Queries in the gallery. */
  galleryRows?: number;
  /** Folder for log and checkpoint. Without it nothing is written. */
  out?: string;
}

/** A query's row in the gallery: drawings by their index in {@link EmojiDrawings}. */
export interface DemoNeighbours {
  query: number;
  before: number[];
  after: number[];
}

export interface DemoResult {
  random: DemoFigures;
  trained: DemoFigures;
  /** Of the whole run: reading, training, evaluation. */
  seconds: number;
  seed: number;
  epochs: number;
  neighbours: DemoNeighbours[];
}

const defaultEpochs = 20;

/**
 * Pre-trains a small ViT on the 7,572 emoji drawings of two vendors and judges the frozen encoder before and after, see {@link judge}.
 *
 * Nothing but the drawings is used in training: neither which two show the same emoji, nor their categories.
 */
export async function runDemo(source: EmojiDrawings, options: DemoOptions = {}, hooks: PretrainHooks = {}): Promise<DemoResult> {
  const { seed = 0, epochs = defaultEpochs, galleryRows = 24, threads, out } = options;
  const started = performance.now();
  let before: Tensor | undefined;
  const { moco } = await pretrain(
    { ...demoRecipe, data: source, encoder: (numClasses) => new VisionTransformer({ ...demoEncoder, numClasses }), seed, epochs, threads, out, saveEveryEpochs: epochs },
    {
      ...hooks,
      onStart: async (run, moco) => {
        await hooks.onStart?.(run, moco);
        before = await features(moco.baseEncoder, source);
      },
    },
  );
  const after = await features(moco.baseEncoder, source);
  moco.dispose();
  const result: DemoResult = {
    random: judge(before!, source),
    trained: judge(after, source),
    neighbours: neighbours({ before: before!, after }, source, galleryRows),
    seconds: (performance.now() - started) / 1000,
    seed,
    epochs,
  };
  before!.dispose();
  after.dispose();
  return result;
}

/** Class tokens [7572, D] of all drawings, each resized as a whole. */
async function features(encoder: Encoder, source: EmojiDrawings): Promise<Tensor> {
  const table = await new FeatureExtractor(encoder, { batchSize: 256 }).extract(source, { resizeShorter: null });
  return table.features;
}

/**
 * Figures of an encoder from the features [7572, D] of all drawings, each the mean of both directions, Google to Twitter and back:
 * - recall@1 and recall@5: the same emoji is the nearest, or among the five nearest, of the other vendor's 3,786 drawings.
 * - kNN: the category that the 20 nearest of the other vendor's drawings vote for. Without skin-tone variations, whose many hands and people
 *   would make most neighbours copies of the query.
 */
export function judge(features: Tensor, source: EmojiDrawings): DemoFigures {
  const { pairs, baseEmoji } = source;
  return torch.scope(() => {
    const vendors = [features.narrow(0, 0, pairs), features.narrow(0, pairs, pairs)] as const;
    const base = torch.tensor([...baseEmoji], undefined, { dtype: "int64" });
    const labels = baseEmoji.map((index) => source.label(index));
    const labelled = vendors.map((vendor) => ({ features: vendor.indexSelect(0, base), labels }));
    const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    const directions = [[0, 1], [1, 0]] as const;
    const recalls = directions.map(([from, to]) => recallAt(vendors[from], vendors[to], [1, 5]));
    return {
      recall1: mean(recalls.map((recall) => recall[0] as number)),
      recall5: mean(recalls.map((recall) => recall[1] as number)),
      knn: mean(directions.map(([from, to]) => knnAccuracy(labelled[from]!, labelled[to]!))),
    };
  });
}

/** Evenly spread Google drawings and their nearest five of Twitter's, before and after. */
function neighbours(features: { before: Tensor; after: Tensor }, source: EmojiDrawings, rows: number): DemoNeighbours[] {
  const { pairs, baseEmoji } = source;
  const queries = Array.from({ length: rows }, (_, i) => baseEmoji[Math.floor(((i + 0.5) * baseEmoji.length) / rows)] as number);
  return torch.scope(() => {
    const nearest = (all: Tensor): number[][] => {
      const index = torch.tensor(queries, undefined, { dtype: "int64" });
      return nearestNeighbours(all.narrow(0, 0, pairs).indexSelect(0, index), all.narrow(0, pairs, pairs), 5);
    };
    const [before, after] = [nearest(features.before), nearest(features.after)];
    return queries.map((query, i) => ({
      query,
      before: before[i]!.map((index) => index + pairs),
      after: after[i]!.map((index) => index + pairs),
    }));
  });
}
