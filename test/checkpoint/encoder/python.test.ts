/** Converted encoders in the libraries themselves, where a Python with them is given. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import {
  convertCheckpoint, disposeTensors, OrderedDict, readCheckpoint, readEncoderFile, writeCheckpoint
} from "../../../lib/checkpoint/index.js";
import { createModel, encoderFromFile, VisionTransformer, type Encoder } from "../../../lib/models/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { maxRelative } from "../../support/digest.js";
import { runPython, testPython } from "../../support/python.js";

const VERSIONS = `
import importlib, json
def version(name):
    try: return importlib.import_module(name).__version__
    except ImportError: return None
print(json.dumps({name: version(name) for name in ("timm", "torchvision", "transformers")}))
`;

/**
 * Runs the line of Python that the conversion printed, loads the file where the line does not, and writes the features of the images.
 * For transformers also: the image processor's output, and the state dict as the model itself names it.
 */
const FEATURES = `
import json, sys, torch
from functools import partial
library, line, path, images, out = sys.argv[1:]
exec("import " + library)
exec(line)
model.eval()
if library != "transformers": model.load_state_dict(torch.load(path, weights_only=True), strict=True)
torch.set_num_threads(1)
with torch.no_grad(): output = model(torch.load(images))
features = output if library != "transformers" else output.last_hidden_state[:, 0] if "ViT" in line else output.pooler_output.flatten(1)
extra = {}
if library == "transformers":
    extra["state"] = model.state_dict()
    import numpy
    picture = numpy.zeros((300, 400, 3), numpy.uint8)
    extra["pixels"] = transformers.AutoImageProcessor.from_pretrained(path)(picture, return_tensors="pt")["pixel_values"]
torch.save({"features": features, **extra}, out)
print("{}")
`;
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";

const versions = testPython === null ? null : runPython<Record<string, string | null>>(VERSIONS);
const has = (library: string): boolean => {
  const version = versions?.[library];
  return typeof version === "string" && !(library === "timm" && version.startsWith("0."));
};

interface Answer {
  features: Tensor;
  state?: Map<string, Tensor>;
  pixels?: Tensor;
}

const folder = temporaryFolder("libraries");
expectNoTensorsLeft();

describe.each<[name: string, build: () => Encoder]>([
  ["vit_small", () => createModel("vit_small", { numClasses: 0 })],
  ["resnet50", () => createModel("resnet50", { numClasses: 0 })],
  ["another ViT", () => new VisionTransformer({
    imageSize: 48, patchSize: 8, embedDim: 40, depth: 2, numHeads: 4, mlpRatio: 3, normEps: 1e-4, numClasses: 0,
  })],
])("%s", (name, build) => {
  const source = (): string => join(folder, `${name}.encoder.pth`);
  const images = (): string => join(folder, `${name}.images.pth`);
  let expected: Float32Array;

  beforeAll(async () => {
    if (testPython === null) return;
    const model = build();
    torch.manualSeed(5);
    torch.scope(() => torch.noGrad(() => {
      for (const [key, parameter] of model.namedParameters()) {
        // Attention that is not uniform, so that the heads matter. At four times the weights, roundings grow to 4e-3 in twelve blocks.
        if (key.endsWith("qkv.weight")) parameter.mul_(1.5);
        if (parameter.ndim === 1) parameter.add_(torch.randn(parameter.shape).mul(0.1));
      }
      for (const [key, buffer] of model.namedBuffers()) if (key.endsWith("running_var")) buffer.mul_(torch.rand(buffer.shape).add(0.5));
    }));
    const isVit = model instanceof VisionTransformer;
    const [height, width] = isVit ? model.imageSize : [224, 224];
    const record = isVit ? { num_heads: model.numHeads, image_size: model.imageSize, norm_eps: model.norm.eps } : {};
    await writeCheckpoint(source(), { arch: name, state_dict: new OrderedDict([...model.stateDict()]), encoder: { format: 1, ...record } });
    const pixels = torch.randn([2, 3, height, width]);
    await writeCheckpoint(images(), pixels);
    model.eval();
    expected = torch.scope(() => torch.noGrad(() => model.forwardFeatures(pixels).data() as Float32Array));
    pixels.dispose();
    model.dispose();
  });

  const libraries = [["timm", "timm"], ["torchvision", "torchvision"], ["transformers", "huggingface"]] as const;
  for (const [library, to] of libraries) (has(library) ? test : test.skip)(`has the same features in ${library}`, async () => {
    const output = join(folder, `${name}.${to}`);
    const { notes } = await convertCheckpoint(source(), output, { to });
    const line = notes.find((note) => note.startsWith("in Python: "))!.slice("in Python: ".length);
    const file = join(folder, `${name}.${to}.features`);
    runPython(FEATURES, [library, line, output, images(), file]);
    const answer = await readCheckpoint<Answer>(file);
    expect(maxRelative(answer.features.data() as Float32Array, expected)).toBeLessThan(1e-5);
    if (answer.pixels !== undefined) {
      const side = name === "another ViT" ? 48 : 224;
      expect(answer.pixels.shape).toEqual([1, 3, side, side]);
      expect((answer.pixels.data() as Float32Array)[0]).toBeCloseTo(-0.485 / 0.229, 5);
    }
    // What torch.save writes of a live model has other names in transformers 5.
    if (answer.state !== undefined && name !== "resnet50") {
      const live = join(folder, `${name}.live.pth`);
      await writeCheckpoint(live, answer.state);
      using read = await readEncoderFile(live, { numHeads: name === "another ViT" ? 4 : 12 });
      using original = await readEncoderFile(source());
      expect([...read.backbone.keys()]).toEqual([...original.backbone.keys()]);
      for (const [key, tensor] of original.backbone) expect([key, torch.equal(tensor, read.backbone.get(key)!)]).toEqual([key, true]);
      encoderFromFile(read).dispose();
    }
    disposeTensors(answer);
    await rm(output, { recursive: true });
  }, 120_000);
});
