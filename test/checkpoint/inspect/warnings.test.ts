import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { addPrefix, inspectCheckpoint, OrderedDict, writeCheckpoint } from "../../../lib/checkpoint/index.js";
import { ResNet, VisionTransformer } from "../../../lib/models/index.js";
import type { AnyModule } from "../../../lib/nn/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { fixturePath } from "../../support/fixtures.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";

const folder = temporaryFolder("warnings");
expectNoTensorsLeft();

type State = OrderedDict<string, Tensor>;

let written = 0;

/** Codes and messages of the warnings about a value, which is made and written to a file. */
async function warningsOf(make: () => unknown): Promise<Map<string, string>> {
  const path = join(folder, `${written++}.pth`);
  using scope = torch.openScope();
  await writeCheckpoint(path, scope.run(make));
  return new Map((await inspectCheckpoint(path)).warnings.map(({ code, message }) => [code, message]));
}

/** An encoder of ViT-S's width, one block deep, for one patch. */
function vitState({ width = 384, imageSize = 224, numClasses = 0 } = {}): State {
  const patchSize = imageSize === 224 ? 56 : 8;
  return stateOf(new VisionTransformer({ imageSize, patchSize, embedDim: width, depth: 1, numHeads: 2, numClasses }));
}

function resnetState(): State {
  return stateOf(new ResNet({ block: "basic", layers: [1, 1, 1, 1], width: 4, numClasses: 3 }));
}

/** Copies of a model's tensors, in the surrounding scope; the model is disposed of. */
function stateOf(model: AnyModule): State {
  const state = new OrderedDict([...model.stateDict()].map(([key, tensor]) => [key, tensor.detach().clone()]));
  model.dispose();
  return state;
}

function pretraining(encoder: State, extra: Record<string, unknown> = {}): Record<string, unknown> {
  const state = new OrderedDict([...addPrefix(encoder, "module.base_encoder."), ...addPrefix(encoder, "module.momentum_encoder.")]);
  return { epoch: 3, arch: "vit_small", state_dict: state, optimizer: { state: new Map(), param_groups: [] }, scaler: {}, ...extra };
}

/** A state dict that looks trained: no batch normalisation without a batch. */
function used(state: State): State {
  for (const [key, tensor] of state) if (key.endsWith("num_batches_tracked")) tensor.fill_(8);
  return state;
}

describe("module-prefix", () => {
  test("told where every key has it", async () => {
    expect((await warningsOf(() => addPrefix(used(resnetState())))).get("module-prefix")).toMatch(/begins with "module\."/);
    expect((await warningsOf(() => used(resnetState()))).size).toBe(0);
  });
});

describe("heads", () => {
  test("12 of MoCo's, where timm's ViT-S has 6, with the words that create_model needs", async () => {
    const message = (await warningsOf(() => pretraining(vitState()))).get("heads");
    expect(message).toContain('timm.create_model("vit_small_patch56_224", num_heads=12)');
    expect(message).toContain("has 12 attention heads");
    expect(message).toContain("DeiT's has 6");
    // The fixed positions give MoCo's weights away in other layouts too.
    expect((await warningsOf(() => ({ model: vitState() }))).get("heads")).toContain("num_heads=12");
  });

  test("not told where both agree, or where the positions are learned", async () => {
    expect((await warningsOf(() => pretraining(vitState({ width: 768 })))).has("heads")).toBe(false);
    const learned = await warningsOf(() => {
      const state = vitState({ numClasses: 10 });
      torch.noGrad(() => state.get("pos_embed")!.add_(torch.rand(state.get("pos_embed")!.shape)));
      return state;
    });
    expect([...learned.keys()]).toEqual([]);
  });

  test("a config.json that says timm's number beside MoCo's positions", async () => {
    const check = async (config: object): Promise<string | undefined> => {
      const path = join(folder, `huggingface-${written++}`);
      mkdirSync(path);
      writeFileSync(join(path, "config.json"), JSON.stringify(config));
      using scope = torch.openScope();
      await writeCheckpoint(join(path, "pytorch_model.bin"), scope.run(vitState));
      return (await inspectCheckpoint(path)).warnings.find(({ code }) => code === "heads")?.message;
    };
    expect(await check({ num_attention_heads: 6 })).toMatch(/config\.json says 6 .* set num_attention_heads to 12/);
    expect(await check({ num_attention_heads: 12 })).toBeUndefined();
    expect(await check({})).toContain("num_heads=12");
  });

  test("heads-unknown where no rule fits the width", async () => {
    const codes = await warningsOf(() => pretraining(vitState({ width: 64 })));
    expect(codes.get("heads-unknown")).toMatch(/nothing tells how many attention heads/);
    expect((await warningsOf(() => pretraining(vitState()))).has("heads-unknown")).toBe(false);
  });
});

describe("projector", () => {
  test("named in pre-training, and in other files that it got into", async () => {
    const withProjector = (): State => new OrderedDict([...vitState(), ["head.0.weight", torch.ones([8, 384])], ["head.3.weight", torch.ones([8, 8])]]);
    expect((await warningsOf(() => pretraining(withProjector()))).get("projector")).toMatch(/^module\.base_encoder\.head\.\* is the projector/);
    expect((await warningsOf(() => ({ model: withProjector() }))).get("projector")).toMatch(/^head\.\* is the projector .*leave it out/);
    expect((await warningsOf(() => new OrderedDict([...used(resnetState()), ["fc.0.weight", torch.ones([3, 3])]]))).has("projector")).toBe(true);
    const upstream = await inspectCheckpoint(fixturePath("checkpoints/vitmini_adamw_zip.pth.tar"));
    expect(upstream.warnings.find(({ code }) => code === "projector")?.message).toContain("and predictor.* its predictor");
  });

  test("a classifier is none", async () => {
    expect((await warningsOf(() => vitState({ numClasses: 10 }))).has("projector")).toBe(false);
    expect((await warningsOf(() => used(resnetState()))).has("projector")).toBe(false);
  });
});

test("not-pretraining: of a linear probe alone", async () => {
  const probe = await inspectCheckpoint(fixturePath("checkpoints/lincls_vit_zip.pth.tar"));
  expect(probe.warnings.find(({ code }) => code === "not-pretraining")?.message).toMatch(/linear probe.*no --resume of pre-training takes it/);
  expect((await warningsOf(() => pretraining(vitState()))).has("not-pretraining")).toBe(false);
});

test("no-optimizer and no-scaler: of pre-training without them alone", async () => {
  const released = await warningsOf(() => {
    const { optimizer: _, scaler: __, ...rest } = pretraining(vitState());
    return rest;
  });
  expect([...released.keys()]).toEqual(expect.arrayContaining(["no-optimizer", "no-scaler"]));
  const whole = await warningsOf(() => pretraining(vitState()));
  expect(whole.has("no-optimizer") || whole.has("no-scaler")).toBe(false);
  const bare = await warningsOf(() => vitState());
  expect(bare.has("no-optimizer") || bare.has("no-scaler")).toBe(false);
});

test("non-finite: which tensors, and how many values", async () => {
  const bad = await warningsOf(() => {
    const state = used(resnetState());
    state.get("conv1.weight")!.select(0, 0).fill_(NaN);
    state.get("fc.bias")!.select(0, 1).fill_(-Infinity);
    return state;
  });
  expect(bad.get("non-finite")).toMatch(/^147 values are NaN and 1 infinite, in conv1\.weight \(147 of 588\), fc\.bias \(1 of 3\)/);
  expect((await warningsOf(() => used(resnetState()))).has("non-finite")).toBe(false);
  const many = await warningsOf(() => new OrderedDict(Array.from({ length: 9 }, (_, i) => [`w${i}`, torch.tensor([NaN])])));
  expect(many.get("non-finite")).toContain("w3 (1 of 1) and 5 more");
});

test("batch-norm: dead channels, and layers that have seen nothing", async () => {
  const dead = await warningsOf(() => {
    const state = used(resnetState());
    state.get("bn1.running_var")!.select(0, 0).fill_(0);
    return state;
  });
  expect(dead.get("batch-norm")).toMatch(/^running_var is 0 or below in bn1\.running_var: those channels are dead\. /);
  expect((await warningsOf(resnetState)).get("batch-norm")).toMatch(/num_batches_tracked.* have not seen a batch yet/);
  expect((await warningsOf(() => used(resnetState()))).has("batch-norm")).toBe(false);
});

test("half-precision: of the model's tensors, not of a float64 or integer", async () => {
  const half = await warningsOf(() => new OrderedDict([["a", torch.ones([2], { dtype: "bfloat16" })], ["b", torch.ones([2])]]));
  expect(half.get("half-precision")).toMatch(/^1 of the model's 2 tensors of floats are stored as bfloat16/);
  const wide = await warningsOf(() => new OrderedDict([["a", torch.ones([2], { dtype: "float64" })], ["b", torch.ones([2], { dtype: "int8" })]]));
  expect(wide.size).toBe(0);
});

test("image-size: where a model for 224 pixels does not take the positions", async () => {
  expect((await warningsOf(() => pretraining(vitState({ imageSize: 16 })))).get("image-size")).toContain("img_size=16 in timm");
  expect((await warningsOf(() => pretraining(vitState()))).has("image-size")).toBe(false);
});

test("unused-storage: views of larger tensors", async () => {
  const views = await warningsOf(() => new OrderedDict([["a", torch.ones([1024, 1024]).select(0, 0)], ["b", torch.ones([2])]]));
  expect(views.get("unused-storage")).toMatch(/^4\.0 MiB of the file .*\(a\)/);
  const shared = await warningsOf(() => {
    const whole = torch.ones([1024, 1024]);
    return new OrderedDict([["a", whole.narrow(0, 0, 512)], ["b", whole.narrow(0, 512, 512)]]);
  });
  expect(shared.size).toBe(0);
});
