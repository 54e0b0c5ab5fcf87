/** The recipes that both sides follow. What is not said here has the default of upstream's programs or of timm. */

export const methodNames = ["knn", "lincls", "finetune"] as const;
export type MethodName = (typeof methodNames)[number];

/** Of the linear probe: flags of upstream's `main_lincls.py`, which `moco lincls` has too. */
export function probeFlags({ quick }: { quick: boolean }): string[] {
  const flags = { lr: 0.2, "batch-size": 128, epochs: quick ? 2 : 15 };
  return Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
}

export const knn = { ks: [1, 5, 20], temperature: 0.07 } as const;

/** Of end-to-end fine-tuning; learning rates are those of the batch size here. */
export interface FinetuneRecipe {
  epochs: number;
  batchSize: number;
  lr: number;
  minLr: number;
  warmupLr: number;
  warmupEpochs: number;
  weightDecay: number;
  colorJitter: number;
  /** RandAugment as timm writes it, or null. */
  autoAugment: string | null;
  /** Probability of random erasing. */
  erasing: number;
  mixup: number;
  cutmix: number;
  smoothing: number;
  dropPath: number;
}

const plain: FinetuneRecipe = {
  epochs: 15, batchSize: 64, lr: 1e-3, minLr: 1e-5, warmupLr: 1e-6, warmupEpochs: 2, weightDecay: 0.05, colorJitter: 0.4, autoAugment: null,
  erasing: 0, mixup: 0, cutmix: 0, smoothing: 0.1, dropPath: 0,
};

/** Fine-tuning with crops, flips, colour jitter and label smoothing alone, and with all that DeiT's recipe does to images and labels. */
export const finetunings = {
  plain,
  full: { ...plain, autoAugment: "rand-m9-mstd0.5-inc1", erasing: 0.25, mixup: 0.8, cutmix: 1, dropPath: 0.1 },
} as const satisfies Record<string, FinetuneRecipe>;

export type FinetuningName = keyof typeof finetunings;
