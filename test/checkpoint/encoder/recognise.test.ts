import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import {
  addPrefix, architectureNames, backboneOf, disposeTensors, OrderedDict, readCheckpoint, recogniseCheckpoint, sizesOf,
  type RecognisedCheckpoint,
} from "../../../lib/checkpoint/index.js";
import { architectureOf, conventionalHeads } from "../../../lib/checkpoint/encoder/architecture.js";
import { gridOfFixedPositions } from "../../../lib/checkpoint/encoder/fixedPositions.js";
import { keyMaps } from "../../../lib/checkpoint/encoder/layouts/index.js";
import { architectures, createModel, positionEmbedding2d, ResNet, VisionTransformer } from "../../../lib/models/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { fixturePath } from "../../support/fixtures.js";

type State = OrderedDict<string, Tensor>;

const built: { dispose(): void }[] = [];
let before: number;
let vit: State;
let learned: State;
let resnet: State;

beforeAll(() => {
  before = torch.memory().tensors;
  const network = new VisionTransformer({ imageSize: 32, patchSize: 8, embedDim: 384, depth: 1, numHeads: 12, numClasses: 7 });
  vit = new OrderedDict([...network.stateDict()]);
  const positions = torch.randn([1, 17, 384]);
  learned = new OrderedDict([...vit].map(([key, tensor]) => [key, key === "pos_embed" ? positions : tensor]));
  const residual = new ResNet({ block: "basic", layers: [2, 2, 2, 2], width: 4, numClasses: 7 });
  resnet = new OrderedDict([...residual.stateDict()]);
  built.push(network, positions, residual);
});
afterAll(() => {
  for (const each of built) each.dispose();
  expect(torch.memory().tensors).toBe(before);
});

const without = (state: State, part: string): State => new OrderedDict([...state].filter(([key]) => !key.startsWith(part)));
const bare = (state: State): State => without(without(state, "head"), "fc");
const named = (state: State, layout: keyof typeof keyMaps): State =>
  new OrderedDict([...bare(state)].flatMap(([key, tensor]) => keyMaps[layout].theirs(key)!.map((name) => [name, tensor] as const)));
const record = { format: 1, num_heads: 6, image_size: [32, 32], norm_eps: 1e-6 };
const metadata = { format: "pt", moco_v3_encoder: "1", arch: "vit_small", num_heads: "6", image_size: "32x32", norm_eps: "0.00001" };
const withMetadata = (state: State): State => Object.assign(new OrderedDict(state), { attributes: { metadata } });
const adamw = { state: new Map(), param_groups: [{ betas: [0.9, 0.999], params: [0, 1, 2, 3] }] };
const lars = { state: new Map(), param_groups: [{ trust_coefficient: 0.001, momentum: 0.9, params: [0] }] };
const probe = { state: new Map(), param_groups: [{ momentum: 0.9, nesterov: false, params: [0, 1] }] };
const pretraining = (state: State): State =>
  new OrderedDict([
    ...addPrefix(state, "module.base_encoder."), ...addPrefix(state, "module.momentum_encoder."),
    ["module.predictor.0.weight", [...state.values()][0]!],
  ]);

const cases: [what: string, value: () => unknown, expected: Partial<RecognisedCheckpoint>][] = [
  ["upstream's pre-training",
    () => ({ epoch: 3, arch: "vit_small", state_dict: pretraining(vit), optimizer: adamw, scaler: { scale: 65536 } }),
    {
      kind: "moco-v3", arch: "vit_small", archFrom: "file", numHeads: 12, numHeadsFrom: "convention", epoch: 3, optimizer: "adamw",
      precision: "fp16", prefix: "module.",
    }],
  ["a ResNet of a run of ours, which tells the size of its images",
    () => ({ epoch: 1, arch: "resnet18", state_dict: pretraining(resnet), moco_v3_run: { facts: { recipe: { imageSize: 48 } } } }),
    { kind: "moco-v3", family: "resnet", imageSize: [48, 48] }],
  ["released weights", () => ({ epoch: 300, arch: "resnet50", state_dict: pretraining(resnet) }),
    { kind: "moco-v3", family: "resnet", arch: "resnet50", epoch: 300, optimizer: null, precision: null }],
  ["pre-training with LARS on the CPU",
    () => ({ epoch: 1, arch: "resnet18", state_dict: pretraining(resnet), optimizer: lars, scaler: {} }),
    { kind: "moco-v3", optimizer: "lars", precision: "fp32" }],
  ["our own pre-training",
    () => ({
      epoch: 1, arch: "vit_small", state_dict: pretraining(vit), moco_v3_run: { num_heads: 6, facts: { recipe: { precision: "bf16" } } },
    }),
    { kind: "moco-v3", numHeads: 6, numHeadsFrom: "file", precision: "bf16" }],
  ["an encoder inside DataParallel", () => ({ state_dict: addPrefix(learned, "module.") }),
    { kind: "timm", prefix: "module.", numHeads: 6, numClasses: 7 }],
  ["a linear probe", () => ({ epoch: 1, arch: "vit_small", state_dict: addPrefix(vit), best_acc1: 0.5, optimizer: probe }),
    { kind: "linear-probe", prefix: "module.", numClasses: 7, optimizer: "sgd", numHeads: 12 }],
  ["supervised training", () => ({ epoch: 1, arch: "resnet18", state_dict: addPrefix(resnet), best_acc1: 0.5, optimizer: adamw }),
    { kind: "torchvision", arch: "resnet18", numClasses: 7 }],
  ["an encoder file", () => ({ arch: "vit_small", state_dict: bare(vit), encoder: record }),
    { kind: "encoder", numHeads: 6, numHeadsFrom: "file" }],
  ["our safetensors", () => withMetadata(bare(vit)),
    { kind: "encoder", arch: "vit_small", archFrom: "file", numHeads: 6, imageSize: [32, 32], normEps: 1e-5 }],
  ["upstream's conversion", () => ({ model: bare(vit) }), { kind: "deit", fixedPositions: true, numHeads: 12, numClasses: null }],
  ["DeiT's training", () => ({ model: learned, optimizer: adamw, epoch: 2, args: {} }),
    { kind: "deit", fixedPositions: false, numHeads: 6, numClasses: 7 }],
  ["timm's weights", () => learned,
    { kind: "timm", numHeads: 6, numHeadsFrom: "convention", imageSize: [32, 32], patchSize: 8, mlpRatio: 4 }],
  ["timm's training", () => ({ state_dict: learned, state_dict_ema: learned, arch: "vit_small_patch16_224", epoch: 1 }),
    { kind: "timm", arch: null }],
  ["a bare encoder of ours", () => bare(vit), { kind: "state-dict", family: "vit", fixedPositions: true, numHeads: 12 }],
  ["a plain dict of tensors", () => Object.fromEntries(learned), { kind: "timm" }],
  ["torchvision's ResNet", () => resnet, { kind: "torchvision", family: "resnet", width: 4, depth: 18, numClasses: 7 }],
  ["torchvision's ViT", () => named(learned, "torchvision-vit"), { kind: "torchvision", family: "vit", width: 384, depth: 1, numHeads: 6 }],
  ["Hugging Face's ViT", () => named(learned, "huggingface-vit"), { kind: "huggingface", family: "vit", width: 384, numHeads: 6 }],
  ["Hugging Face's ViT with a classifier",
    () => new OrderedDict([...addPrefix(named(learned, "huggingface-vit"), "vit."), ["classifier.weight", learned.get("head.weight")!]]),
    { kind: "huggingface", prefix: "vit.", numClasses: 7 }],
  ["Hugging Face's ResNet", () => named(resnet, "huggingface-resnet"), { kind: "huggingface", family: "resnet", depth: 18 }],
  ["other tensors", () => new OrderedDict([["a", learned.get("norm.bias")!]]), { kind: "state-dict", family: null, arch: null }],
  ["nothing of use", () => ({ epoch: 1 }), { kind: "unknown", family: null }],
];

describe("what a checkpoint is", () => {
  test.each(cases)("%s", (_, value, expected) => {
    expect(recogniseCheckpoint(value())).toMatchObject(expected);
  });

  test("config.json tells heads, image size and eps", () => {
    const state = named(learned, "huggingface-vit");
    const config = { num_attention_heads: 8, image_size: [16, 64], layer_norm_eps: 1e-5 };
    expect(recogniseCheckpoint(state, config)).toMatchObject({ numHeads: 8, numHeadsFrom: "config", imageSize: [16, 64], normEps: 1e-5 });
  });

  test("odd values are unknown and throw nothing", () => {
    const map = new Map<unknown, unknown>([[1, 2]]);
    const odd = [null, undefined, 1, "x", [], map, { state_dict: 5 }, { model: { a: 1 } }, { optimizer: { param_groups: [] } }];
    for (const value of odd) expect(recogniseCheckpoint(value).kind).toBe("unknown");
    const flat = new OrderedDict([["blocks.0.attn.qkv.weight", vit.get("norm.bias")!], ["pos_embed", vit.get("norm.bias")!]]);
    expect(recogniseCheckpoint(flat)).toMatchObject({ family: "vit", width: null, numHeads: null });
  });

  test("files of upstream", async () => {
    for (const [name, expected] of [
      ["vit_stopgrad_adamw_zip", {
        kind: "moco-v3", width: 24, depth: 2, imageSize: [32, 32], patchSize: 8, optimizer: "adamw", epoch: 2, fixedPositions: true,
      }],
      ["resnet_lars_legacy", { kind: "moco-v3", width: 2, depth: 18, optimizer: "lars", arch: "resnet18" }],
      ["lincls_vit_legacy", { kind: "linear-probe", width: 16, numClasses: 10, optimizer: "sgd", epoch: 3 }],
    ] as const) {
      const value = await readCheckpoint(fixturePath(`checkpoints/${name}.pth.tar`));
      expect([name, recogniseCheckpoint(value)]).toEqual([name, expect.objectContaining(expected)]);
      disposeTensors(value);
    }
  });
});

describe("the encoder in it", () => {
  test("a key of an unknown part is named, with what it belongs to where that is known", () => {
    const tensor = vit.get("norm.bias")!;
    for (const [key, message] of [
      ["dist_token", /dist_token belongs to the second class token of a distilled DeiT/],
      ["blocks.0.ls1.gamma", /ls1.gamma belongs to a layer scale/],
      ["reg_token", /register tokens/],
      ["blocks.0.attn.q_norm.weight", /normalised queries/],
      ["fc_norm.weight", /mean over the patches/],
      ["norm_pre.weight", /before the first block/],
      ["blocks.0.mlp.w12.weight", /gated MLPs/],
      ["extra.weight", /extra.weight belongs to no part of a known encoder/],
    ] as const) {
      expect(() => backboneOf(recogniseCheckpoint(new OrderedDict([...vit, [key, tensor]])))).toThrow(message);
    }
    expect(() => backboneOf(recogniseCheckpoint(without(vit, "blocks.0.norm2.bias")))).toThrow(/lacks blocks.0.norm2.bias/);
    expect(() => backboneOf(recogniseCheckpoint(new OrderedDict([["a", tensor]])))).toThrow(/neither a ViT nor a ResNet/);
    expect(() => backboneOf(recogniseCheckpoint({}))).toThrow(/holds no state dict/);
    const missing = new OrderedDict([...named(learned, "huggingface-vit")].filter(([key]) => !key.includes("key.weight")));
    expect(() => backboneOf(recogniseCheckpoint(missing))).toThrow(/blocks.0.attn.qkv.weight needs 3 tensors, and the file has 2/);
    const theirs = [...named(learned, "huggingface-vit")];
    const uneven = new OrderedDict(theirs.map(([key, each]) => [key, key.includes("key.weight") ? tensor : each]));
    expect(() => backboneOf(recogniseCheckpoint(uneven))).toThrow(/different shapes, \[1152, 384\] and \[384\]/);
  });

  test("classifiers, poolers and decoders are left out", () => {
    const tensor = vit.get("norm.bias")!;
    const heads = ["head.bias", "head.3.weight", "pre_logits.fc.weight", "mask_token", "decoder_blocks.0.norm1.weight"];
    const state = new OrderedDict([...bare(vit), ...heads.map((key) => [key, tensor] as const)]);
    expect([...backboneOf(recogniseCheckpoint(state)).keys()]).toEqual([...bare(vit).keys()]);
    const theirs = ["pooler.dense.weight", "classifier.bias", "embeddings.mask_token", "decoder.0.weight"];
    const huggingface = new OrderedDict([...named(resnet, "huggingface-resnet"), ["classifier.1.bias", tensor]]);
    expect([...backboneOf(recogniseCheckpoint(huggingface)).keys()]).toEqual([...bare(resnet).keys()]);
    const vitOfTheirs = new OrderedDict([...named(learned, "huggingface-vit"), ...theirs.map((key) => [key, tensor] as const)]);
    const converted = backboneOf(recogniseCheckpoint(vitOfTheirs));
    expect([...converted.keys()]).toEqual([...bare(vit).keys()]);
    for (const [key, joined] of converted) if (key.includes("qkv")) joined.dispose();
  });

  test("batch counts that files of PyTorch before 0.4.1 lack are zero", () => {
    const old = new OrderedDict([...resnet].filter(([key]) => !key.endsWith("num_batches_tracked")));
    const backbone = backboneOf(recogniseCheckpoint(old));
    expect([...backbone.keys()]).toEqual([...bare(resnet).keys()]);
    const added = [...backbone].filter(([key]) => !old.has(key));
    expect(added.map(([, tensor]) => [tensor.dtype, tensor.item()])).toEqual(added.map(() => ["int64", 0]));
    for (const [, tensor] of added) tensor.dispose();
  });
});

test("the sizes of architectures with a name are those of the models of that name", () => {
  expect([...architectureNames].sort()).toEqual([...architectures].sort());
  for (const name of ["vit_small", "vit_conv_small", "resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2"]) {
    const model = createModel(name, { numClasses: 0 });
    expect(architectureOf(sizesOf(model.stateDict()))).toBe(name);
    model.dispose();
  }
});

test("heads by width are those of the ViT paper", () => {
  expect([192, 384, 768, 1024, 1280, 100].map(conventionalHeads)).toEqual([3, 6, 12, 16, 16, null]);
});

test("fixed positions are told from others, and tell the grid", () => {
  const grids: [number, number][] = [[4, 4], [2, 8], [8, 2], [3, 5], [14, 14]];
  for (const [rows, columns] of grids) {
    torch.scope(() => {
      const table = positionEmbedding2d(rows, columns, 24);
      expect(gridOfFixedPositions(table)).toEqual([rows, columns]);
      for (const dtype of ["float16", "bfloat16"] as const) expect(gridOfFixedPositions(table.to(dtype))).toEqual([rows, columns]);
      expect(gridOfFixedPositions(table.add(0.01))).toBeNull();
      // MAE's table has the columns first.
      if (rows === columns) expect(gridOfFixedPositions(torch.cat([table.narrow(2, 12, 12), table.narrow(2, 0, 12)], 2))).toBeNull();
    });
  }
});
