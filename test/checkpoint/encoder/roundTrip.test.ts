import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import {
  addPrefix, convertCheckpoint, convertTargets, disposeTensors, OrderedDict, readCheckpoint, readEncoderFile, writeCheckpoint,
  type ConvertTarget,
} from "../../../lib/checkpoint/index.js";
import { keyMaps } from "../../../lib/checkpoint/encoder/layouts/index.js";
import { encoderFromFile, ResNet, VisionTransformer, type Encoder } from "../../../lib/models/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { DType, Tensor } from "../../../lib/torch/index.js";
import { fixturePath } from "../../support/fixtures.js";
import { bitsOf } from "./bits.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";

const folder = temporaryFolder("round-trip");
expectNoTensorsLeft();

interface Model {
  name: string;
  build: () => Encoder;
  dtype?: DType;
  /** Learned positions in place of the fixed ones. */
  learned?: boolean;
  refused?: ConvertTarget[];
}

const models: Model[] = [
  { name: "ViT", build: () => new VisionTransformer({ imageSize: 32, patchSize: 8, embedDim: 24, depth: 11, numHeads: 3, numClasses: 5 }) },
  {
    name: "ViT of another shape", learned: true, refused: ["torchvision"],
    build: () => new VisionTransformer({
      imageSize: [32, 48], patchSize: 8, embedDim: 20, depth: 1, numHeads: 5, mlpRatio: 3.3, normEps: 1e-5, numClasses: 0,
    }),
  },
  {
    name: "ViT in half precision", dtype: "float16",
    build: () => new VisionTransformer({ imageSize: 16, patchSize: 8, embedDim: 8, depth: 2, numHeads: 2, numClasses: 0 }),
  },
  {
    name: "ViT with a convolutional stem", refused: ["torchvision", "huggingface"],
    build: () => new VisionTransformer({ imageSize: 32, embedDim: 16, depth: 2, numHeads: 4, stem: "conv", numClasses: 0 }),
  },
  { name: "ResNet with basic blocks", build: () => new ResNet({ block: "basic", layers: [1, 2, 1, 1], width: 4, numClasses: 5 }) },
  {
    name: "ResNet with bottlenecks", dtype: "bfloat16",
    build: () => new ResNet({ block: "bottleneck", layers: [1, 1, 1, 2], width: 4, numClasses: 0 }),
  },
  {
    name: "ResNeXt", refused: ["huggingface"],
    build: () => new ResNet({ block: "bottleneck", layers: [1, 1, 1, 1], width: 16, groups: 2, widthPerGroup: 16, numClasses: 0 }),
  },
];

/** What only these kinds of files keep. */
const COMPLETE: readonly ConvertTarget[] = ["moco-v3", "huggingface", "safetensors", "encoder"];

describe.each(models)("$name", ({ name, build, dtype, learned, refused = [] }) => {
  let source: string;
  let expected: ReturnType<typeof bitsOf>;
  let facts: { numHeads?: number; imageSize?: number[]; };
  let normEps: number;

  beforeAll(async () => {
    const model = build();
    if (dtype !== undefined) model.to(dtype);
    torch.scope(() => torch.noGrad(() => {
      for (const [key, parameter] of model.namedParameters()) {
        if (key !== "pos_embed" || learned) parameter.copy_(torch.randn(parameter.shape));
      }
      for (const [, buffer] of model.namedBuffers()) buffer.copy_(torch.rand(buffer.shape).mul(100));
    }));
    const head = `${model.headKey}.`;
    const state = new OrderedDict([...model.stateDict()]);
    expected = bitsOf(new Map([...state].filter(([key]) => !key.startsWith(head))));
    facts = model instanceof VisionTransformer ? { numHeads: model.numHeads, imageSize: [...model.imageSize] } : {};
    normEps = name === "ViT of another shape" ? 1e-5 : 1e-6;
    source = join(folder, `${name}.pth`);
    const record = model instanceof VisionTransformer ? { num_heads: model.numHeads, image_size: model.imageSize, norm_eps: normEps } : {};
    await writeCheckpoint(source, { arch: "custom", state_dict: state, encoder: { format: 1, ...record } });
    model.dispose();
  });

  test.each(convertTargets.filter((to) => to !== "onnx" && !refused.includes(to)))("comes back from %s bit by bit", async (to) => {
    const there = join(folder, `${name}.${to}`);
    const back = join(folder, `${name}.${to}.encoder`);
    await convertCheckpoint(source, there, { to });
    // 32x48 of 8x8 patches are 24 positions, which tell no shape.
    if (!COMPLETE.includes(to) && learned) {
      await expect(readEncoderFile(there)).rejects.toThrow(/24 positions .* no square grid/);
      return;
    }
    await convertCheckpoint(there, back, { to: "encoder", numHeads: COMPLETE.includes(to) ? undefined : facts.numHeads });
    using read = await readEncoderFile(back);
    expect(bitsOf(read.backbone)).toEqual(expected);
    expect(read.spec).toMatchObject(facts);
    if (COMPLETE.includes(to)) expect(read.spec.normEps).toBe(normEps);
    const encoder = encoderFromFile(read);
    if (dtype === undefined) expect(bitsOf(encoder.stateDict())).toEqual(expected);
    encoder.dispose();
  });

  if (refused.length > 0) {
    test.each(refused)("is refused for %s, which has no such model", async (to) => {
      const output = join(folder, `${name}.refused.${to}`);
      await expect(convertCheckpoint(source, output, { to })).rejects.toThrow(/square images|no ViT with a convolutional stem|no ResNeXt/);
      expect((await readdir(folder)).filter((each) => each.includes("refused"))).toEqual([]);
    });
  }
});

describe("pre-training checkpoints", () => {
  const path = fixturePath("checkpoints/vit_stopgrad_adamw_zip.pth.tar");

  test("give the base or the momentum encoder", async () => {
    const checkpoint = await readCheckpoint<{ state_dict: Map<string, Tensor> }>(path);
    for (const which of ["base", "momentum"] as const) {
      const output = join(folder, `${which}.pth`);
      await convertCheckpoint(path, output, { to: "encoder", which, numHeads: 3 });
      using read = await readEncoderFile(output);
      const start = `module.${which}_encoder.`;
      const own = [...checkpoint.state_dict].filter(([key]) => key.startsWith(start) && !key.startsWith(`${start}head`));
      expect(bitsOf(addPrefix(read.backbone, start))).toEqual(bitsOf(new Map(own)));
      expect(read.spec.numHeads).toBe(3);
    }
    disposeTensors(checkpoint);
    await expect(convertCheckpoint(join(folder, "base.pth"), join(folder, "no.pth"), { to: "timm", which: "momentum" }))
      .rejects.toThrow(/only pre-training checkpoints have one; this is of kind encoder/);
  });

  test("hold only what upstream's linear probe reads, from files of every format", async () => {
    for (const name of ["vitmini_adamw_legacy", "vitmini_adamw_cuda0_zip", "vitmini_adamw_torch17_zip"]) {
      const output = join(folder, `${name}.pth.tar`);
      const { arch, from } = await convertCheckpoint(fixturePath(`checkpoints/${name}.pth.tar`), output, { to: "moco-v3", numHeads: 2 });
      expect({ arch, from }).toEqual({ arch: "vit_small", from: "moco-v3" });
      const value = await readCheckpoint<{ epoch: number; arch: string; state_dict: Map<string, Tensor> }>(output);
      expect(value.epoch).toBe(2);
      expect([...value.state_dict.keys()].filter((key) => !key.startsWith("module.base_encoder.") || key.includes("head"))).toEqual([]);
      disposeTensors(value);
    }
  });
});

test.each(["timm", "torchvision"] as const)("%s is written as safetensors where the file's name says so", async (to) => {
  const [source, output] = [fixturePath("convert/deit_from_resnet.pth"), join(folder, `bare.${to}.safetensors`)];
  await convertCheckpoint(source, output, { to });
  using expected = await readEncoderFile(source);
  using read = await readEncoderFile(output);
  expect(read.value).toMatchObject({ attributes: { metadata: { format: "pt" } } });
  expect(bitsOf(read.backbone)).toEqual(bitsOf(expected.backbone));
});

test("a tensor that is a small part of a large storage does not bring the rest along", async () => {
  const model = new VisionTransformer({ imageSize: 16, patchSize: 8, embedDim: 8, depth: 1, numHeads: 2, numClasses: 0 });
  const state = new OrderedDict([...model.stateDict()]);
  const large = torch.randn([1000, 8]);
  state.set("norm.weight", large.select(0, 7));
  const [source, output] = [join(folder, "large.pth"), join(folder, "small.pth")];
  await writeCheckpoint(source, state);
  await convertCheckpoint(source, output, { to: "timm" });
  const written = await readCheckpoint<Map<string, Tensor>>(output);
  expect(torch.storageOf(written.get("norm.weight")!).bytes).toBe(32);
  expect(bitsOf(written)).toEqual(bitsOf(state));
  disposeTensors([written, large, state.get("norm.weight")]);
  model.dispose();
});

const example = (pattern: string): string => pattern.replace("{n}", "10").replace("{p}", "bias").replace("{b}", "running_var");

test("every layout names each of our tensors once, and reads what it writes", () => {
  for (const [name, keyMap] of Object.entries(keyMaps)) {
    const theirs = new Set<string>();
    for (const [ours] of keyMap.layout.rows) {
      const key = example(ours);
      for (const [part, each] of keyMap.theirs(key)!.entries()) {
        expect([name, keyMap.place(each)]).toEqual([name, expect.objectContaining({ ours: key, part })]);
        theirs.add(each);
      }
    }
    // Names that are only read stand in rows of their own.
    const written = new Set(keyMap.layout.rows.map(([ours]) => ours));
    const parts = [...written].reduce((sum, ours) => sum + keyMap.theirs(example(ours))!.length, 0);
    expect([name, theirs.size]).toEqual([name, parts]);
  }
});
