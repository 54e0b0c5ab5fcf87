import type { Layout } from "../keyMap.js";

/** timm's `VisionTransformer`, whose names upstream and DeiT have and so do we. */
export const vit: Layout = {
  name: "vit",
  family: "vit",
  signatures: ["blocks.0.attn.qkv.weight"],
  rows: same([
    "cls_token",
    "pos_embed",
    "patch_embed.proj.{p}",
    // Convolutional stem: four convolutions without bias, each with a batch normalisation, and a last one with.
    "patch_embed.proj.0.weight", "patch_embed.proj.1.{b}",
    "patch_embed.proj.3.weight", "patch_embed.proj.4.{b}",
    "patch_embed.proj.6.weight", "patch_embed.proj.7.{b}",
    "patch_embed.proj.9.weight", "patch_embed.proj.10.{b}",
    "patch_embed.proj.12.{p}",
    "blocks.{n}.norm1.{p}",
    "blocks.{n}.attn.qkv.{p}",
    "blocks.{n}.attn.proj.{p}",
    "blocks.{n}.norm2.{p}",
    "blocks.{n}.mlp.fc1.{p}",
    "blocks.{n}.mlp.fc2.{p}",
    "norm.{p}",
  ]),
  classifiers: ["head.weight"],
  // Classifier, MoCo's projector (head.0.weight ...), the layer before the classifier in timm before 0.5, and MAE's decoder.
  dropped: ["head.*", "pre_logits.*", "mask_token", "decoder_*"],
};

function same(keys: readonly string[]): [string, string][] {
  return keys.map((key) => [key, key]);
}
