import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { convertCheckpoint, convertTargets, readEncoderFile, type ReadEncoderOptions } from "../../../lib/checkpoint/index.js";
import { encoderFromFile } from "../../../lib/models/index.js";
import * as torch from "../../../lib/torch/index.js";
import { maxAbsolute } from "../../support/digest.js";
import { fixturePath, readJson, readNpz } from "../../support/fixtures.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";

const LIBRARIES = "convert/libraries";
const expected = readNpz<Float32Array>(`${LIBRARIES}/expected.npz`);
const { heads } = readJson<{ heads: number }>(`${LIBRARIES}/manifest.json`);

/** Files of other libraries, with what they do not tell themselves. */
const files = [
  { name: "timm_vit", file: "timm_vit.pth", kind: "timm", numHeads: heads },
  { name: "torchvision_vit", file: "torchvision_vit.pth", kind: "torchvision", numHeads: heads },
  { name: "huggingface_vit", file: "huggingface_vit", kind: "huggingface", numHeads: undefined },
  { name: "torchvision_resnet", file: "torchvision_resnet.pth", kind: "torchvision", numHeads: undefined },
  { name: "huggingface_resnet", file: "huggingface_resnet", kind: "huggingface", numHeads: undefined },
] as const;

const folder = temporaryFolder("libraries");
expectNoTensorsLeft();

/** Features that the encoder in a file gives for the images of the golden data. */
async function featuresOf(path: string, options: ReadEncoderOptions = {}): Promise<Float32Array> {
  using read = await readEncoderFile(path, options);
  const encoder = encoderFromFile(read).eval();
  try {
    const { data, shape } = expected.get("images")!;
    return torch.scope(() => torch.noGrad(() => encoder.forwardFeatures(torch.tensor(data, shape)).data() as Float32Array));
  } finally {
    encoder.dispose();
  }
}

/** The largest difference from the library's own features, over their largest magnitude. */
function error(features: Float32Array, name: string): number {
  const golden = expected.get(name)!.data;
  return maxAbsolute(features, golden) / golden.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
}

describe.each(files)("$name", ({ name, file, kind, numHeads }) => {
  const path = fixturePath(`${LIBRARIES}/${file}`);

  test("has the library's features", async () => {
    expect(error(await featuresOf(path, { numHeads }), name)).toBeLessThan(1e-5);
    using read = await readEncoderFile(path, { numHeads });
    expect(read.recognised.kind).toBe(kind);
  });

  // For ONNX, which is not read here, see onnxFile.test.ts.
  test.each(convertTargets.filter((to) => to !== "onnx"))("keeps them as %s", async (to) => {
    const output = join(folder, `${name}.${to}`);
    const { notes } = await convertCheckpoint(path, output, { to, numHeads });
    const eps = name === "huggingface_vit" && ["moco-v3", "deit", "timm", "torchvision"].includes(to);
    expect(notes.some((note) => /eps[ =]0.001/.test(note))).toBe(eps);
    const tellsHeads = ["moco-v3", "huggingface", "safetensors", "encoder"].includes(to);
    // Only these tell an eps other than 1e-6 too.
    if (name === "huggingface_vit" && !tellsHeads) return;
    const vit = name.endsWith("_vit");
    expect(error(await featuresOf(output, { numHeads: vit && !tellsHeads ? heads : undefined }), name)).toBeLessThan(1e-5);
  });
});

describe("what the tensors do not tell", () => {
  test("another number of heads gives other features, so a file that does not tell it is not used without --heads", async () => {
    const path = fixturePath(`${LIBRARIES}/timm_vit.pth`);
    expect(error(await featuresOf(path, { numHeads: heads / 2 }), "timm_vit")).toBeGreaterThan(1e-2);
    await expect(featuresOf(path)).rejects.toThrow(/number of attention heads .* is unknown/);
    await expect(convertCheckpoint(path, join(folder, "x"), { to: "huggingface" })).rejects.toThrow(/--heads/);
    const open = join(folder, "open.safetensors");
    expect((await convertCheckpoint(path, open, { to: "safetensors" })).notes).toEqual([expect.stringMatching(/give --heads$/)]);
    await expect(featuresOf(open)).rejects.toThrow(/number of attention heads .* is unknown/);
  });

  test("another eps gives other features, and ViTConfig's default is taken where config.json is missing", async () => {
    const bare = join(folder, "weights.safetensors");
    await copyFile(fixturePath(`${LIBRARIES}/huggingface_vit/model.safetensors`), bare);
    expect(error(await featuresOf(bare, { numHeads: heads }), "huggingface_vit")).toBeGreaterThan(1e-4);
    using read = await readEncoderFile(bare, { numHeads: heads });
    expect(read.spec.normEps).toBe(1e-12);
    expect(read.spec.notes.join()).toMatch(/no config.json .* eps 1e-12/);
  });

  test("a config.json of another function is refused, with what it says and what is needed", async () => {
    const config = readJson<Record<string, unknown>>(`${LIBRARIES}/huggingface_vit/config.json`);
    const model = await mkdtemp(join(folder, "model-"));
    await copyFile(fixturePath(`${LIBRARIES}/huggingface_vit/model.safetensors`), join(model, "model.safetensors"));
    for (const [name, value, message] of [
      ["hidden_act", "quick_gelu", /config.json has hidden_act = "quick_gelu"; needed is "gelu"/],
      ["num_attention_heads", 3, /num_attention_heads = 3; needed is a divisor of 16/],
      ["layer_norm_eps", "small", /layer_norm_eps = "small"/],
      ["qkv_bias", false, /qkv_bias = false/],
      ["image_size", 48, /image_size = 48/],
      ["hidden_size", 32, /hidden_size = 32; needed is 16/],
    ] as const) {
      await writeFile(join(model, "config.json"), JSON.stringify({ ...config, [name]: value }));
      await expect(readEncoderFile(model)).rejects.toThrow(message);
    }
    await writeFile(join(model, "config.json"), "{");
    await expect(readEncoderFile(model)).rejects.toThrow(/config.json: it is no JSON/);
    await rm(join(model, "model.safetensors"));
    await expect(readEncoderFile(model)).rejects.toThrow(/neither model.safetensors nor pytorch_model.bin/);
  });
});
