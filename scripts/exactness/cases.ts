import { ResNet, VisionTransformer } from "../../lib/models/index.js";
import type { PretrainOptions } from "../../lib/train/pretrainOptions.js";

const vit = (options: { stopGradConv1?: boolean; stem?: "patch" | "conv"; patchSize: number }) => (numClasses: number): VisionTransformer =>
  new VisionTransformer({ imageSize: 32, embedDim: 32, depth: 2, numHeads: 4, numClasses, ...options });

const narrowResNet = (numClasses: number): ResNet =>
  new ResNet({ block: "bottleneck", layers: [1, 1, 1, 1], width: 8, numClasses, zeroInitResidual: true });

const adamw = { optimizer: "adamw", lr: 1e-3, weightDecay: 0.1, temperature: 0.2, mCos: true } satisfies Partial<PretrainOptions>;

/** The kinds of networks that the paper trains, small, each with the paper's optimiser for it. */
export const exactnessCases = {
  "ViT, frozen patch projection": { encoder: vit({ stopGradConv1: true, patchSize: 8 }), ...adamw },
  "ViT, learned patch projection": { encoder: vit({ patchSize: 8 }), ...adamw },
  "ViT with ConvStem": { encoder: vit({ stem: "conv", patchSize: 16 }), ...adamw },
  "ResNet": { encoder: narrowResNet, optimizer: "lars", lr: 0.5, weightDecay: 1e-6, temperature: 1, imageSize: 64 },
} satisfies Record<string, Partial<PretrainOptions>>;

export type CaseName = keyof typeof exactnessCases;

/** What all of them have in common: three, two or four processes share a batch evenly, and an epoch's order changes after four steps. */
export const commonOptions = {
  imageSize: 32, dim: 16, mlpDim: 32, batchSize: 12, epochs: 5, warmupEpochs: 0.5, seed: 3, threads: 1, workers: 1, device: "cpu",
} satisfies Partial<PretrainOptions>;

/** Images of an epoch: four batches and one image that fills none. */
export const IMAGES = 49;
export const STEPS = 20;
