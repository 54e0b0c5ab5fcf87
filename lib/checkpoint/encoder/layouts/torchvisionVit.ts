import type { Layout } from "../keyMap.js";

/** `torchvision.models.VisionTransformer`. */
export const torchvisionVit: Layout = {
  name: "torchvision-vit",
  family: "vit",
  signatures: ["encoder.layers.encoder_layer_0.ln_1.weight"],
  rows: [
    ["cls_token", "class_token"],
    ["pos_embed", "encoder.pos_embedding"],
    ["patch_embed.proj.{p}", "conv_proj.{p}"],
    ["blocks.{n}.norm1.{p}", "encoder.layers.encoder_layer_{n}.ln_1.{p}"],
    ["blocks.{n}.attn.qkv.{p}", "encoder.layers.encoder_layer_{n}.self_attention.in_proj_{p}"],
    ["blocks.{n}.attn.proj.{p}", "encoder.layers.encoder_layer_{n}.self_attention.out_proj.{p}"],
    ["blocks.{n}.norm2.{p}", "encoder.layers.encoder_layer_{n}.ln_2.{p}"],
    ["blocks.{n}.mlp.fc1.{p}", "encoder.layers.encoder_layer_{n}.mlp.0.{p}"],
    ["blocks.{n}.mlp.fc2.{p}", "encoder.layers.encoder_layer_{n}.mlp.3.{p}"],
    // The MLPs' names in files of torchvision before 0.13; they are read, not written.
    ["blocks.{n}.mlp.fc1.{p}", "encoder.layers.encoder_layer_{n}.mlp.linear_1.{p}"],
    ["blocks.{n}.mlp.fc2.{p}", "encoder.layers.encoder_layer_{n}.mlp.linear_2.{p}"],
    ["norm.{p}", "encoder.ln.{p}"],
  ],
  classifiers: ["heads.head.weight"],
  dropped: ["heads.*"],
};
