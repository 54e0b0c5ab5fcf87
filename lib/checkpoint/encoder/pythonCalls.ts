import { architectureOf } from "./architecture.js";
import type { EncoderSpec } from "./encoderSpec.js";

/** timm's own models of the same sizes: width/depth/patch, and the heads that they have. */
const TIMM_VITS: Record<string, readonly [name: string, heads: number]> = {
  "192/12/16": ["vit_tiny_patch16_224", 3],
  "384/12/16": ["vit_small_patch16_224", 6],
  "768/12/16": ["vit_base_patch16_224", 12],
  "768/12/8": ["vit_base_patch8_224", 12],
  "384/12/32": ["vit_small_patch32_224", 6],
  "768/12/32": ["vit_base_patch32_224", 12],
  "1024/24/16": ["vit_large_patch16_224", 16],
};

/** The Python call that builds the timm model which the converted weights fit; null where timm has none. */
export function timmCall({ sizes, numHeads, imageSize, normEps }: EncoderSpec): string | null {
  if (sizes.family === "resnet") {
    const name = architectureOf(sizes);
    return name === null ? null : `timm.create_model("${name}", num_classes=0)`;
  }
  if (sizes.stem === "conv") return null;
  const { width, depth, patchSize, mlpRatio } = sizes;
  const [height, breadth] = imageSize ?? [224, 224];
  const size = height === breadth ? String(height) : `(${height}, ${breadth})`;
  const heads = numHeads ?? "HEADS";
  const norm = normEps === 1e-6 ? [] : [`norm_layer=partial(torch.nn.LayerNorm, eps=${normEps})`];
  const named = mlpRatio === 4 ? TIMM_VITS[`${width}/${depth}/${patchSize}`] : undefined;
  const call = (name: string, args: string[]): string => `${name}(${args.join(", ")})`;
  if (named !== undefined) {
    const [name, usual] = named;
    return call("timm.create_model", [
      `"${name}"`, "num_classes=0",
      ...(usual === numHeads ? [] : [`num_heads=${heads}`]), ...(size === "224" ? [] : [`img_size=${size}`]), ...norm,
    ]);
  }
  return call("timm.models.VisionTransformer", [
    `img_size=${size}`, `patch_size=${patchSize}`, `embed_dim=${width}`, `depth=${depth}`, `num_heads=${heads}`,
    ...(mlpRatio === 4 ? [] : [`mlp_ratio=${mlpRatio}`]), "num_classes=0", ...norm,
  ]);
}

/** The Python lines that build the torchvision model which the converted weights fit. */
export function torchvisionCall({ sizes, numHeads, imageSize, normEps }: EncoderSpec): string | null {
  if (sizes.family === "resnet") {
    const name = architectureOf(sizes);
    return name === null ? null : `torchvision.models.${name}(); model.fc = torch.nn.Identity()`;
  }
  const { width, depth, patchSize, mlpRatio } = sizes;
  const norm = normEps === 1e-6 ? "" : `, norm_layer=partial(torch.nn.LayerNorm, eps=${normEps})`;
  return (
    `torchvision.models.VisionTransformer(image_size=${imageSize?.[0]}, patch_size=${patchSize}, num_layers=${depth}, ` +
    `num_heads=${numHeads ?? "HEADS"}, hidden_dim=${width}, mlp_dim=${Math.round(width * mlpRatio)}${norm}); ` +
    "model.heads = torch.nn.Identity()"
  );
}
