import { writeDigits } from "../../test/support/digits.js";
import type { PretrainOptions } from "../../lib/train/pretrainOptions.js";
import { writeEmoji } from "./emojiFolder.js";
import type { FinetuningName } from "./methods.js";

/** Sizes of a ViT, in words that both sides understand. */
export interface EncoderSizes {
  imageSize: number;
  patchSize: number;
  embedDim: number;
  depth: number;
  numHeads: number;
  stem: "patch" | "conv";
}

/** A data set of the comparison, and how its encoder is pre-trained. */
export interface ComparedData {
  /** What the table calls it. */
  title: string;
  /** Writes it as an image folder with `train/` and `val/`; `quick` for a part of it. */
  write(folder: string, quick: boolean): Promise<void>;
  encoder: EncoderSizes;
  pretraining: Partial<PretrainOptions> & { epochs: number };
  /** Recipes by which it is fine-tuned. All that DeiT's does to images leaves little of a digit of 8 x 8 pixels. */
  finetunings: readonly FinetuningName[];
}

const shared = {
  dim: 128, mlpDim: 512, temperature: 0.2, optimizer: "adamw", weightDecay: 0.1, warmupEpochs: 1.5, m: 0.95, mCos: true, batchSize: 128,
  augmentation: { blurProbability: 0, solarizeProbability: 0 }, cacheImages: true, device: "cpu", precision: "fp32", seed: 0,
} as const satisfies Partial<PretrainOptions>;

export const dataSets = {
  digits: {
    title: "digits",
    write: (folder, quick) => writeDigits(folder, { count: quick ? 450 : undefined }),
    encoder: { imageSize: 32, patchSize: 8, embedDim: 96, depth: 4, numHeads: 3, stem: "patch" },
    pretraining: {
      ...shared, lr: 1.5e-3, epochs: 30, cropMin: 0.4, augmentation: { ...shared.augmentation, flipProbability: 0 },
    },
    finetunings: ["plain"],
  },
  emoji: {
    title: "emoji",
    write: async (folder, quick) => void (await writeEmoji(folder, { count: quick ? 240 : undefined })),
    encoder: { imageSize: 48, patchSize: 16, embedDim: 96, depth: 4, numHeads: 3, stem: "conv" },
    pretraining: { ...shared, lr: 3e-3, epochs: 20, cropMin: 0.5 },
    finetunings: ["plain", "full"],
  },
} as const satisfies Record<string, ComparedData>;

export type DataName = keyof typeof dataSets;
