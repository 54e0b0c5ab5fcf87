import type { Layout } from "../keyMap.js";

/** Hugging Face's `ViTModel`, which has three matrices for queries, keys and values. */
export const huggingfaceVit: Layout = {
  name: "huggingface-vit",
  family: "vit",
  signatures: ["embeddings.cls_token"],
  rows: [
    ["cls_token", "embeddings.cls_token"],
    ["pos_embed", "embeddings.position_embeddings"],
    ["patch_embed.proj.{p}", "embeddings.patch_embeddings.projection.{p}"],
    ["blocks.{n}.norm1.{p}", "encoder.layer.{n}.layernorm_before.{p}"],
    ["blocks.{n}.attn.qkv.{p}", [
      "encoder.layer.{n}.attention.attention.query.{p}",
      "encoder.layer.{n}.attention.attention.key.{p}",
      "encoder.layer.{n}.attention.attention.value.{p}",
    ]],
    ["blocks.{n}.attn.proj.{p}", "encoder.layer.{n}.attention.output.dense.{p}"],
    ["blocks.{n}.norm2.{p}", "encoder.layer.{n}.layernorm_after.{p}"],
    ["blocks.{n}.mlp.fc1.{p}", "encoder.layer.{n}.intermediate.dense.{p}"],
    ["blocks.{n}.mlp.fc2.{p}", "encoder.layer.{n}.output.dense.{p}"],
    // Names inside the models of transformers 5, which `save_pretrained` turns back into those above; they are read, not written.
    ["blocks.{n}.norm1.{p}", "layers.{n}.layernorm_before.{p}"],
    ["blocks.{n}.attn.qkv.{p}", [
      "layers.{n}.attention.q_proj.{p}",
      "layers.{n}.attention.k_proj.{p}",
      "layers.{n}.attention.v_proj.{p}",
    ]],
    ["blocks.{n}.attn.proj.{p}", "layers.{n}.attention.o_proj.{p}"],
    ["blocks.{n}.norm2.{p}", "layers.{n}.layernorm_after.{p}"],
    ["blocks.{n}.mlp.fc1.{p}", "layers.{n}.mlp.fc1.{p}"],
    ["blocks.{n}.mlp.fc2.{p}", "layers.{n}.mlp.fc2.{p}"],
    ["norm.{p}", "layernorm.{p}"],
  ],
  classifiers: ["classifier.weight"],
  dropped: ["pooler.*", "classifier.*", "embeddings.mask_token", "decoder.*"],
};
