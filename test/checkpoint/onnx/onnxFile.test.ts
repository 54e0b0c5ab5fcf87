/** The file itself: its structure, what it says, and what happens where it cannot be made. */
import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import protobuf from "protobufjs";
import {
  CheckpointError, convertCheckpoint, ConvertError, disposeTensors, ONNX_OPSET, OrderedDict, OutputExistsError, readCheckpoint, writeCheckpoint,
  type OnnxOptions,
} from "../../../lib/checkpoint/index.js";
import { diskFiles, type FileLayer } from "../../../lib/checkpoint/files/durableFile.js";
import { requireSize } from "../../../lib/checkpoint/onnx/writeOnnx.js";
import { ResNet, VisionTransformer, type Encoder } from "../../../lib/models/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { maxRelative } from "../../support/digest.js";
import { fixturePath, readNpz } from "../../support/fixtures.js";
import { startOnnxRuntime } from "../../support/onnxRuntime.js";
import { runPython, testPython } from "../../support/python.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";

/** The parts of onnx.proto that are used, from its documentation; the writer under test has them as numbers of its own. */
const schema = protobuf.parse(`
  syntax = "proto3";
  message Model { int64 ir_version = 1; string producer_name = 2; string producer_version = 3; string doc_string = 6; Graph graph = 7;
    repeated Opset opset_import = 8; repeated Entry metadata_props = 14; }
  message Opset { string domain = 1; int64 version = 2; }
  message Entry { string key = 1; string value = 2; }
  message Graph { repeated Node node = 1; string name = 2; repeated Tensor initializer = 5; string doc_string = 10; repeated Value input = 11;
    repeated Value output = 12; }
  message Node { repeated string input = 1; repeated string output = 2; string name = 3; string op_type = 4; repeated Attribute attribute = 5; }
  message Attribute { string name = 1; float f = 2; int64 i = 3; repeated int64 ints = 8; int32 type = 20; }
  message Tensor { repeated int64 dims = 1; int32 data_type = 2; string name = 8; bytes raw_data = 9; }
  message Value { string name = 1; Type type = 2; string doc_string = 3; }
  message Type { TensorType tensor_type = 1; }
  message TensorType { int32 elem_type = 1; Shape shape = 2; }
  message Shape { repeated Dim dim = 1; }
  message Dim { int64 dim_value = 1; string dim_param = 2; }
`).root;

interface Graph {
  node: { input: string[]; output: string[]; name: string; opType: string }[];
  initializer: { name: string; dims: number[]; dataType: number; rawData: Uint8Array }[];
  input: Value[];
  output: Value[];
}
interface Value {
  name: string;
  docString: string;
  type: { tensorType: { elemType: number; shape: { dim: { dimValue?: number; dimParam?: string }[] } } };
}
interface Model {
  irVersion: number;
  producerName: string;
  docString: string;
  graph: Graph;
  opsetImport: { domain: string; version: number }[];
  metadataProps: { key: string; value: string }[];
}

const folder = temporaryFolder("onnx-file");
expectNoTensorsLeft();
const runOnnx = startOnnxRuntime();

async function read(path: string): Promise<Model> {
  const type = schema.lookupType("Model");
  return type.toObject(type.decode(await readFile(path)), { longs: Number }) as Model;
}

const dimsOf = ({ type }: Value): (number | string)[] => type.tensorType.shape.dim.map(({ dimValue, dimParam }) => dimParam ?? dimValue!);
const shape = (value: Value): unknown => ({ name: value.name, type: value.type.tensorType.elemType, dims: dimsOf(value) });

/** Bytes of an element by its type's number. */
const ELEMENT_BYTES: Record<number, number> = { 1: 4, 2: 1, 3: 1, 7: 8, 10: 2 };

let vit: string;
let resnet: string;
beforeAll(async () => {
  const write = async (name: string, model: Encoder, record: object): Promise<string> => {
    const path = join(folder, `${name}.pth`);
    await writeCheckpoint(path, { arch: "custom", state_dict: new OrderedDict(model.stateDict()), encoder: { format: 1, ...record } });
    model.dispose();
    return path;
  };
  torch.manualSeed(0);
  vit = await write(
    "vit", new VisionTransformer({ imageSize: [32, 48], patchSize: 8, embedDim: 24, depth: 2, numHeads: 3, numClasses: 0 }),
    { num_heads: 3, image_size: [32, 48], norm_eps: 1e-6 },
  );
  resnet = await write("resnet", new ResNet({ block: "bottleneck", layers: [1, 1, 1, 1], width: 4, numClasses: 7 }), {});
});

describe.each<[string, () => string, OnnxOptions]>([
  ["a ViT", () => vit, {}],
  ["a ViT's patches in float16", () => vit, { layer: "patches", precision: "float16" }],
  ["a ViT in int8 that takes pixels", () => vit, { precision: "int8", preprocess: true }],
  ["a ResNet with its classifier", () => resnet, { withHead: true }],
  ["a ResNet in int8", () => resnet, { precision: "int8" }],
])("%s", (name, source, onnx) => {
  const path = join(folder, `${name}.onnx`);
  let model: Model;
  beforeAll(async () => {
    await convertCheckpoint(source(), path, { to: "onnx", onnx });
    model = await read(path);
  });

  test("is a graph whose values are each made once, before they are used", () => {
    const { node, initializer, input, output } = model.graph;
    const known = new Set<string>();
    for (const made of [...input, ...initializer].map((each) => each.name)) {
      expect(known.has(made)).toBe(false);
      known.add(made);
    }
    const used = new Set<string>();
    for (const { input: inputs, output: outputs } of node) {
      for (const each of inputs) {
        expect(known).toContain(each);
        used.add(each);
      }
      for (const each of outputs) {
        expect(known.has(each)).toBe(false);
        known.add(each);
      }
    }
    expect(new Set(node.map((each) => each.name)).size).toBe(node.length);
    for (const each of output) expect(known).toContain(each.name);
    // And nothing is in the file for nothing.
    for (const each of initializer) expect(used).toContain(each.name);
    for (const { dims = [], dataType, rawData } of initializer) {
      expect(rawData.length).toBe(dims.reduce((product, size) => product * size, ELEMENT_BYTES[dataType]!));
    }
    expect(initializer.some(({ dataType }) => dataType === 3)).toBe(onnx.precision === "int8");
    expect(initializer.some(({ dataType }) => dataType === 10)).toBe(onnx.precision === "float16");
  });

  test("says its opset, and all that a caller must do with an image", () => {
    expect(model).toMatchObject({ irVersion: 8, producerName: "moco-v3", opsetImport: [{ version: ONNX_OPSET }] });
    const metadata = Object.fromEntries(model.metadataProps.map(({ key, value }) => [key, value]));
    const size = source() === vit ? { image_size: "32x48", resize_shorter: "55", num_heads: "3", feature_dim: "24" }
      : { image_size: "224x224", resize_shorter: "256", feature_dim: "128" };
    expect(metadata).toMatchObject({
      ...size, mean: "0.485,0.456,0.406", std: "0.229,0.224,0.225", channels: "RGB", precision: onnx.precision ?? "float32",
      normalization: onnx.preprocess ? "in the model" : "by the caller", source: `${source() === vit ? "vit" : "resnet"}.pth (encoder)`,
      ...(onnx.withHead ? { num_classes: "7" } : {}),
    });
    expect(model.docString).toMatch(onnx.preprocess ? /give the RGB pixels as they are/ : /subtract the mean and divide by std/);
    const grid = source() === vit ? [32, 48] : ["height", "width"];
    expect(model.graph.input.map(shape)).toEqual([
      onnx.preprocess ? { name: "pixels", type: 2, dims: ["batch", ...grid, 3] } : { name: "images", type: 1, dims: ["batch", 3, ...grid] },
    ]);
    expect(model.graph.output.map(shape)).toEqual([
      { name: "features", type: 1, dims: ["batch", source() === vit ? 24 : 128] },
      ...(onnx.withHead ? [{ name: "logits", type: 1, dims: ["batch", 7] }] : []),
    ]);
    for (const value of [...model.graph.input, ...model.graph.output]) expect(value.docString).not.toBe("");
  });

  (testPython === null ? test.skip : test)("passes onnx's own checker with inferred shapes, and runs in its reference evaluator", () => {
    const checked = runPython<{ inferred: unknown[]; names: string[]; difference: number | null }>(`
import json, sys, numpy, onnx
from onnx.reference import ReferenceEvaluator
model = onnx.load(sys.argv[1])
onnx.checker.check_model(model, full_check=True)
inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
shapes = [[d.dim_param or d.dim_value for d in o.type.tensor_type.shape.dim] for o in inferred.graph.output]
random = numpy.random.default_rng(0)
pixels = model.graph.input[0].name == "pixels"
x = random.integers(0, 256, (2, 32, 48, 3)).astype("uint8") if pixels else random.standard_normal((2, 3, 32, 48)).astype("float32")
# The evaluator has DequantizeLinear from 19 on only, with which nothing else of these graphs changes.
if any(n.op_type == "DequantizeLinear" for n in model.graph.node): model.opset_import[0].version = 19
expected = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x})
import onnxruntime
found = onnxruntime.InferenceSession(sys.argv[1]).run(None, {model.graph.input[0].name: x})
print(json.dumps({
    "inferred": shapes, "names": [o.name for o in model.graph.output],
    "difference": max(float(abs(a - b).max() / abs(a).max()) for a, b in zip(expected, found)),
}))
`, [path]);
    expect(checked.names).toEqual(model.graph.output.map((value) => value.name));
    expect(checked.inferred).toEqual(model.graph.output.map(dimsOf));
    expect(checked.difference).toBeLessThan(onnx.precision === "float32" || onnx.precision === undefined ? 1e-5 : 2e-2);
  }, 120_000);
});

test("a linear probe's classifier, with the heads that its width does not tell", async () => {
  const probe = fixturePath("checkpoints/lincls_vit_legacy.pth.tar");
  const path = join(folder, "probe.onnx");
  await expect(convertCheckpoint(probe, path, { to: "onnx" })).rejects.toThrow(/number of attention heads is unknown.*--heads/);
  const bare = await convertCheckpoint(probe, path, { to: "onnx", numHeads: 4 });
  expect(bare.notes).toContain("the linear probe's classifier was left out");
  const { notes } = await convertCheckpoint(probe, path, { to: "onnx", numHeads: 4, force: true, onnx: { withHead: true } });
  expect(notes.join()).not.toContain("left out");
  const { graph } = await read(path);
  const [, , height, width] = dimsOf(graph.input[0]!) as number[];
  const data = new Float32Array(3 * height! * width!).map((_, i) => Math.sin(i));
  const { features, logits } = await runOnnx({ path, name: "images", type: "float32", data, dims: [1, 3, height!, width!] });
  const file = await readCheckpoint(probe) as { state_dict: Map<string, Tensor> };
  const expected = torch.scope(() => torch.noGrad(() => torch.linear(
    torch.tensor(Float32Array.from(features!.data), [1, 16]), file.state_dict.get("module.head.weight")!, file.state_dict.get("module.head.bias")!,
  ).data() as Float32Array));
  expect(maxRelative(logits!.data, expected)).toBeLessThan(1e-5);
  disposeTensors(file);
});

test("encoders of other libraries have those libraries' features", async () => {
  const expected = readNpz<Float32Array>("convert/libraries/expected.npz");
  const { data, shape: dims } = expected.get("images")!;
  for (const [name, file, numHeads] of [
    ["timm_vit", "timm_vit.pth", 4], ["torchvision_vit", "torchvision_vit.pth", 4], ["huggingface_vit", "huggingface_vit", undefined],
    ["torchvision_resnet", "torchvision_resnet.pth", undefined], ["huggingface_resnet", "huggingface_resnet", undefined],
  ] as const) {
    const path = join(folder, `${name}.onnx`);
    await convertCheckpoint(fixturePath(`convert/libraries/${file}`), path, { to: "onnx", numHeads });
    const { features } = await runOnnx({ path, name: "images", type: "float32", data: Float32Array.from(data), dims });
    const error = maxRelative(features!.data, expected.get(name)!.data);
    expect({ name, same: error < 1e-5, error }).toMatchObject({ same: true });
  }
});

describe("what cannot be converted", () => {
  const refused = (input: string, options: OnnxOptions): Promise<unknown> =>
    convertCheckpoint(input, join(folder, "refused.onnx"), { to: "onnx", onnx: options });

  test("layers and classifiers that are not there", async () => {
    await expect(refused(resnet, { layer: "class" })).rejects.toThrow(/the layer is "class", and a ResNet has pooled/);
    await expect(refused(vit, { layer: "pooled" })).rejects.toThrow(/a ViT has class or patches/);
    await expect(refused(vit, { withHead: true })).rejects.toThrow(/classifier was asked for .*kind encoder has none; give the file of a linear/);
    const pretraining = fixturePath("checkpoints/resnet_lars_zip.pth.tar");
    await expect(refused(pretraining, { withHead: true })).rejects.toThrow(/kind moco-v3 has none/); // a projector is no classifier
    const optimizer = join(folder, "optimizer.pth");
    await writeCheckpoint(optimizer, { epoch: 3 });
    await expect(refused(optimizer, {})).rejects.toThrow(ConvertError);
    expect((await readdir(folder)).filter((name) => name.includes("refused"))).toEqual([]);
  });

  test("a name that says ONNX for another kind, and one that is taken", async () => {
    await expect(convertCheckpoint(vit, join(folder, "x.onnx"), { to: "timm" })).rejects.toThrow(/only ONNX models are called so/);
    const taken = join(folder, "taken.onnx");
    await writeFile(taken, "mine");
    await expect(convertCheckpoint(vit, taken, { to: "onnx" })).rejects.toThrow(OutputExistsError);
    expect(await readFile(taken, "utf8")).toBe("mine");
    await convertCheckpoint(vit, taken, { to: "onnx", force: true });
    expect((await read(taken)).producerName).toBe("moco-v3");
  });

  test("a folder that is not there, and one without permission", async () => {
    const nowhere = join(folder, "nowhere", "x.onnx");
    await expect(convertCheckpoint(vit, nowhere, { to: "onnx" })).rejects.toThrow(/cannot be written.*Create the folder first/s);
    if (process.getuid?.() === 0) return; // root may write anywhere
    const locked = join(folder, "locked");
    await mkdir(locked);
    await chmod(locked, 0o500);
    await expect(convertCheckpoint(vit, join(locked, "x.onnx"), { to: "onnx" })).rejects.toThrow(/Choose a folder that you may write to/);
  });

  test("a disk that is full leaves nothing, and an old file as it was", async () => {
    const path = join(folder, "full.onnx");
    await writeFile(path, "old");
    let left = 20_000;
    const files: FileLayer = {
      ...diskFiles,
      async create(name) {
        const file = await diskFiles.create(name);
        return {
          sync: () => file.sync(), close: () => file.close(),
          async write(bytes) {
            if ((left -= bytes.byteLength) < 0) throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
            return file.write(bytes);
          },
        };
      },
    };
    const failure = convertCheckpoint(vit, path, { to: "onnx", force: true, files });
    await expect(failure).rejects.toThrow(CheckpointError);
    await expect(failure).rejects.toThrow(/Free some space/);
    expect(await readFile(path, "utf8")).toBe("old");
    expect((await readdir(folder)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test("weights that are not finite are warned of, and have no scale", async () => {
    const bad = await withValue("nan", NaN);
    const { notes } = await convertCheckpoint(bad, join(folder, "nan.onnx"), { to: "onnx" });
    expect(notes.join()).toMatch(/blocks.0.mlp.fc1.weight hold values that are not finite, and so will the features/);
    await expect(refused(bad, { precision: "int8" })).rejects.toThrow(/fc1.weight has values that are not finite, of which no scale/);
  });

  test("weights beyond float16", async () => {
    const large = await withValue("large", 1e5);
    await expect(refused(large, { precision: "float16" })).rejects.toThrow(/fc1.weight has values up to 1.00e\+5, and those of float16 end at 65504; .*float32/);
    expect((await readdir(folder)).filter((name) => name.includes("refused"))).toEqual([]);
  });

  test("models of 2 GiB and more", () => {
    expect(() => requireSize(2 ** 31 - 2 ** 17, {})).not.toThrow();
    expect(() => requireSize(2.5 * 2 ** 30, {})).toThrow(/2.50 GiB in float32, and one ONNX file holds less than 2; --precision float16 halves it/);
    expect(() => requireSize(2 ** 31, { precision: "float16" })).toThrow(/--precision int8 halves it/);
  });

  /** The ViT with one value in a weight of its first block. */
  async function withValue(name: string, value: number): Promise<string> {
    const path = join(folder, `${name}.pth`);
    const file = await readCheckpoint(vit) as { state_dict: Map<string, Tensor> };
    const weight = file.state_dict.get("blocks.0.mlp.fc1.weight")!;
    torch.scope(() => torch.noGrad(() => void weight.select(0, 0).fill_(value)));
    await writeCheckpoint(path, file);
    disposeTensors(file);
    return path;
  }
});
