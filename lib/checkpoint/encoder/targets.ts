/** What `moco convert` writes. */
export const convertTargets = ["moco-v3", "deit", "timm", "torchvision", "huggingface", "safetensors", "encoder"] as const;
export type ConvertTarget = (typeof convertTargets)[number];
