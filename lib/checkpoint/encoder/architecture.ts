/** What an encoder's tensors tell about it, from their shapes under our names. */

/** Shape of a tensor by our name for it. */
export type Shapes = ReadonlyMap<string, readonly number[]>;

export interface VitSizes {
  family: "vit";
  width: number;
  depth: number;
  patchSize: number;
  /** Number of positions besides the class token's. */
  positions: number;
  stem: "patch" | "conv";
  mlpRatio: number;
}

export interface ResnetSizes {
  family: "resnet";
  /** Channels of the stem. */
  width: number;
  /** The number in the name of such a network: 18, 34, 50, ... */
  depth: number;
  block: "basic" | "bottleneck";
  layers: number[];
  groups: number;
  widthPerGroup: number;
}

/** What an encoder's tensors tell of its sizes. */
export type EncoderSizes = VitSizes | ResnetSizes;

/** A ViT's sizes, or null where tensors are missing or have impossible shapes. */
export function vitSizes(shapes: Shapes): VitSizes | null {
  const [one, tokens, width] = shapes.get("pos_embed") ?? [];
  const depth = countNumbered(shapes.keys(), "blocks");
  const stem = shapes.has("patch_embed.proj.0.weight") ? "conv" : "patch";
  const patchSize = stem === "conv" ? 16 : shapes.get("patch_embed.proj.weight")?.[2];
  const hidden = shapes.get("blocks.0.mlp.fc1.weight")?.[0];
  if (one !== 1 || !tokens || tokens < 2 || !width || !hidden || !patchSize || depth === 0) return null;
  return { family: "vit", width, depth, patchSize, positions: tokens - 1, stem, mlpRatio: hidden / width };
}

/** A ResNet's sizes, or null where tensors are missing or have impossible shapes. */
export function resnetSizes(shapes: Shapes): ResnetSizes | null {
  const width = shapes.get("conv1.weight")?.[0];
  const [channels, perGroup] = shapes.get("layer1.0.conv2.weight") ?? [];
  if (!width || !channels || !perGroup) return null;
  const layers = [1, 2, 3, 4].map((stage) => countNumbered(shapes.keys(), `layer${stage}`));
  const block = shapes.has("layer1.0.conv3.weight") ? "bottleneck" : "basic";
  const blocks = layers.reduce((sum, count) => sum + count, 0);
  const depth = (block === "basic" ? 2 : 3) * blocks + 2;
  const groups = channels / perGroup;
  // The 3x3 convolution of the first bottleneck has width * widthPerGroup / 64 channels in each group.
  const widthPerGroup = block === "basic" ? 64 : (perGroup * 64) / width;
  return { family: "resnet", width, depth, block, layers, groups, widthPerGroup };
}

/** Attention heads that a ViT of another library than MoCo v3's has, by its width; null where there is no convention. */
export function conventionalHeads(width: number): number | null {
  if (width === 1280) return 16; // ViT-H, the one model of the ViT paper whose heads are not 64 wide
  return width % 64 === 0 ? width / 64 : null;
}

/** Attention heads of MoCo v3's ViTs of every width. */
export const MOCO_HEADS = 12;

// Sizes of the architectures that have a name; a test compares them with the registry of models.
const VITS: Record<string, Pick<VitSizes, "width" | "depth" | "stem">> = {
  vit_small: { width: 384, depth: 12, stem: "patch" },
  vit_base: { width: 768, depth: 12, stem: "patch" },
  vit_conv_small: { width: 384, depth: 11, stem: "conv" },
  vit_conv_base: { width: 768, depth: 11, stem: "conv" },
};

const RESNETS: Record<string, Pick<ResnetSizes, "block" | "layers" | "groups" | "widthPerGroup">> = {
  resnet18: { block: "basic", layers: [2, 2, 2, 2], groups: 1, widthPerGroup: 64 },
  resnet34: { block: "basic", layers: [3, 4, 6, 3], groups: 1, widthPerGroup: 64 },
  resnet50: { block: "bottleneck", layers: [3, 4, 6, 3], groups: 1, widthPerGroup: 64 },
  resnet101: { block: "bottleneck", layers: [3, 4, 23, 3], groups: 1, widthPerGroup: 64 },
  resnet152: { block: "bottleneck", layers: [3, 8, 36, 3], groups: 1, widthPerGroup: 64 },
  resnext50_32x4d: { block: "bottleneck", layers: [3, 4, 6, 3], groups: 32, widthPerGroup: 4 },
  resnext101_32x8d: { block: "bottleneck", layers: [3, 4, 23, 3], groups: 32, widthPerGroup: 8 },
  wide_resnet50_2: { block: "bottleneck", layers: [3, 4, 6, 3], groups: 1, widthPerGroup: 128 },
  wide_resnet101_2: { block: "bottleneck", layers: [3, 4, 23, 3], groups: 1, widthPerGroup: 128 },
};

/** Names of all architectures that have one. */
export const architectureNames: readonly string[] = [...Object.keys(VITS), ...Object.keys(RESNETS)];

/** The name of the architecture that has these sizes, or null. A ViT's patch size is no part of it. */
export function architectureOf(sizes: EncoderSizes): string | null {
  const fits = ([, named]: [string, object]): boolean =>
    Object.entries(named).every(([name, value]) => String(sizes[name as keyof EncoderSizes]) === String(value));
  if (sizes.family === "vit") return sizes.mlpRatio === 4 ? (Object.entries(VITS).find(fits)?.[0] ?? null) : null;
  return sizes.width === 64 ? (Object.entries(RESNETS).find(fits)?.[0] ?? null) : null;
}

/** How many numbers 0, 1, 2, ... follow `stem.` among the keys. */
function countNumbered(keys: Iterable<string>, stem: string): number {
  const numbers = new Set<string>();
  for (const key of keys) {
    if (!key.startsWith(`${stem}.`)) continue;
    numbers.add(key.slice(stem.length + 1).split(".", 1)[0]!);
  }
  return numbers.size;
}

const NORM_PARTS = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];

/** Keys that an encoder with these keys must have and has not. */
export function missingKeys(keys: readonly string[], family: "vit" | "resnet"): string[] {
  const norm = (name: string): string[] => NORM_PARTS.map((each) => `${name}.${each}`);
  const both = (name: string): string[] => [`${name}.weight`, `${name}.bias`];
  const needed: string[] = [];
  if (family === "vit") {
    const stem = keys.includes("patch_embed.proj.0.weight")
      ? [
          ...[0, 3, 6, 9].flatMap((i) => [`patch_embed.proj.${i}.weight`, ...norm(`patch_embed.proj.${i + 1}`)]),
          ...both("patch_embed.proj.12"),
        ]
      : both("patch_embed.proj");
    const parts = ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"];
    needed.push("cls_token", "pos_embed", ...stem);
    for (let n = 0; n < Math.max(1, countNumbered(keys, "blocks")); n++) {
      needed.push(...parts.flatMap((part) => both(`blocks.${n}.${part}`)));
    }
    needed.push(...both("norm"));
  } else {
    const convolutions = keys.includes("layer1.0.conv3.weight") ? [1, 2, 3] : [1, 2];
    needed.push("conv1.weight", ...norm("bn1"));
    for (let stage = 1; stage <= 4; stage++) {
      for (let n = 0; n < Math.max(1, countNumbered(keys, `layer${stage}`)); n++) {
        const block = `layer${stage}.${n}`;
        needed.push(...convolutions.flatMap((i) => [`${block}.conv${i}.weight`, ...norm(`${block}.bn${i}`)]));
        if (n === 0 && keys.includes(`${block}.downsample.0.weight`)) needed.push(...norm(`${block}.downsample.1`));
      }
    }
  }
  const present = new Set(keys);
  return needed.filter((key) => !present.has(key));
}
