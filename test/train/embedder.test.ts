import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { addPrefix, writeCheckpoint } from "../../lib/checkpoint/index.js";
import { createMoCo } from "../../lib/moco/index.js";
import { ResNet, VisionTransformer, type VisionTransformerOptions } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import { Embedder } from "../../lib/train/embedder.js";
import { fixturePath } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

const folder = temporaryFolder("embed");

const china = fixturePath("augment/files/china.jpg");
const flower = fixturePath("augment/files/flower.jpg");

describe.each<VisionTransformerOptions>([
  { imageSize: 32, patchSize: 8, embedDim: 24, depth: 2 },
  { imageSize: 32, embedDim: 24, depth: 1, mlpRatio: 2, stem: "conv" },
])("a ViT's sizes are read off its checkpoint: %o", (sizes) => {
  test("and paths and bytes give the base encoder's features", async () => {
    torch.manualSeed(3);
    using moco = createMoCo({ encoder: (numClasses) => new VisionTransformer({ ...sizes, numClasses }), dim: 8, mlpDim: 16 });
    const path = join(folder, "checkpoint_0000.pth.tar");
    await writeCheckpoint(path, { epoch: 1, arch: "custom", state_dict: addPrefix(moco.stateDict()) });
    using embedder = await Embedder.load(folder); // a run's folder means its latest checkpoint
    const vectors = await embedder.embed([china, new Uint8Array(readFileSync(flower)), china]);
    expect(vectors.map((vector) => vector.length)).toEqual([24, 24, 24]);
    expect(vectors[0]).toEqual(vectors[2]);
    expect(vectors[0]).not.toEqual(vectors[1]);
    const direct = await new Embedder(moco.baseEncoder).embed([china, flower, china]);
    expect(vectors).toEqual(direct);
  });
});

test("a training's checkpoint tells the number of heads, which shapes do not", async () => {
  using encoder = new VisionTransformer({ imageSize: 32, patchSize: 16, embedDim: 24, depth: 1, numHeads: 3, numClasses: 0 });
  const path = join(folder, "heads.pth");
  await writeCheckpoint(path, { state_dict: encoder.stateDict(), moco_v3_run: { num_heads: 3 } });
  using embedder = await Embedder.load(path);
  expect((embedder.encoder as VisionTransformer).numHeads).toBe(3);
  using given = await Embedder.load(path, { numHeads: 6 });
  expect((given.encoder as VisionTransformer).numHeads).toBe(6);
  expect(await embedder.embed([china])).toEqual(await new Embedder(encoder).embed([china]));
});

test("a ResNet's architecture is read off its tensors", async () => {
  using encoder = new ResNet({ block: "basic", layers: [2, 2, 2, 2], numClasses: 10 });
  const path = join(folder, "resnet.pth");
  await writeCheckpoint(path, { state_dict: encoder.stateDict() });
  using embedder = await Embedder.load(path, { imageSize: 64 });
  const [vector] = await embedder.embed([china]);
  expect(vector).toHaveLength(512);
});

test("no images give no vectors; an unreadable one is named", async () => {
  using embedder = new Embedder(new VisionTransformer({ imageSize: 32, patchSize: 16, embedDim: 24, depth: 1, numClasses: 0 }));
  expect(await embedder.embed([])).toEqual([]);
  await expect(embedder.embed([china, join(folder, "none.jpg")])).rejects.toThrow(/none\.jpg cannot be embedded/);
  await expect(embedder.embed([new Uint8Array(10)])).rejects.toThrow(/image 0 cannot be embedded/);
});

test("what is no network is refused", async () => {
  const path = join(folder, "other.pth");
  using weight = torch.ones([2]);
  await writeCheckpoint(path, { state_dict: new Map([["weight", weight]]) });
  await expect(Embedder.load(path)).rejects.toThrow(/neither a ViT nor a ResNet/);
});
