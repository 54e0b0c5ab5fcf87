import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import type { FileLayer } from "../files/durableFile.js";
import { writeOnnx } from "../onnx/writeOnnx.js";
import type { OnnxOptions } from "../onnx/onnxOptions.js";
import { addPrefix } from "../keys.js";
import { OrderedDict } from "../pythonValues.js";
import { writeCheckpoint } from "../writeCheckpoint.js";
import { encoderState, type WhichEncoder } from "./backbone.js";
import { ConvertError } from "./convertError.js";
import { encoderMetadata, encoderRecord } from "./encoderRecord.js";
import { NORM_EPS, type EncoderSpec } from "./encoderSpec.js";
import { huggingfaceConfig, preprocessorConfig } from "./huggingfaceConfig.js";
import type { KeyMap } from "./keyMap.js";
import { keyMaps } from "./layouts/index.js";
import { writeModelFolder } from "./modelFolder.js";
import { checkOutput, refuseSame } from "./outputPath.js";
import { torchvisionCall, timmCall } from "./pythonCalls.js";
import { readEncoderFile, type ReadEncoder } from "./readEncoder.js";
import type { CheckpointKind } from "./recognise.js";
import { targetOf, type ConvertTarget } from "./targets.js";

/** What {@link convertCheckpoint} writes, and how. */
export interface ConvertOptions {
  to: ConvertTarget;
  /** Which encoder of a pre-training checkpoint. Default "base". */
  which?: WhichEncoder;
  /** Attention heads of a ViT, where they are not what the file says or its kind usually has. */
  numHeads?: number | undefined;
  /** Replace what is at the output's path. Default false. */
  force?: boolean;
  /** For the target "onnx". */
  onnx?: OnnxOptions;
  /** File operations, for tests that inject faults. */
  files?: FileLayer;
}

/** What was converted. */
export interface Conversion {
  /** File, or folder for "huggingface", that was written. */
  path: string;
  from: CheckpointKind;
  to: ConvertTarget;
  arch: string | null;
  numHeads: number | null;
  /** Number of tensors that were written; for "onnx" of initialisers. */
  tensors: number;
  /** What was assumed, what was left out, and how to open the result. */
  notes: string[];
}

/**
 * Takes the encoder out of a checkpoint of any known kind and writes it for another program. Values and dtypes stay as they are,
 * except in ONNX models, whose weights have the type of `onnx.precision`.
 *
 * @param input a file, or a folder of Hugging Face's
 * @param output appears complete or not at all: a file, or a folder for "huggingface"
 * @throws CheckpointError, ConvertError, and OutputExistsError without `force`
 * @example
 * await convertCheckpoint("checkpoint_0299.pth.tar", "vit-s.pth", { to: "timm" });
 * await convertCheckpoint("checkpoint_0299.pth.tar", "vit-s.onnx", { to: "onnx", onnx: { precision: "int8" } });
 */
export async function convertCheckpoint(input: string, output: string, options: ConvertOptions): Promise<Conversion> {
  const { to, which = "base", numHeads, force = false, onnx = {}, files } = options;
  if (output.endsWith(".safetensors") && !["safetensors", "timm", "torchvision"].includes(to)) {
    throw new ConvertError(
      `${output}: safetensors files hold bare tensors only; give --to ${to} another file name, or use --to safetensors`,
    );
  }
  if (targetOf(output) === "onnx" && to !== "onnx") {
    throw new ConvertError(`${output}: only ONNX models are called so; give --to ${to} another file name, or use --to onnx`);
  }
  await checkOutput(input, output, force, to === "huggingface");
  using read = await readEncoderFile(input, { which, numHeads });
  await refuseSame(read.file, output);
  const { recognised, spec } = read;
  const notes = recognised.family === "vit" ? [...spec.notes] : [];
  const job: Job = { read, output, which, notes, onnx, files: files === undefined ? {} : { files } };
  let tensors: number;
  try {
    tensors = await writers[to](job);
  } catch (error) {
    if (error instanceof ConvertError) throw new ConvertError(`${input}: ${error.message}`, { cause: error });
    throw error;
  }
  if (recognised.kind === "linear-probe" && !(to === "onnx" && onnx.withHead)) notes.push("the linear probe's classifier was left out");
  return { path: output, from: recognised.kind, to, arch: spec.arch, numHeads: spec.numHeads, tensors, notes };
}

interface Job {
  read: ReadEncoder;
  output: string;
  which: WhichEncoder;
  notes: string[];
  onnx: OnnxOptions;
  files: { files?: FileLayer };
}

const writers: Record<ConvertTarget, (job: Job) => Promise<number>> = {
  /** What upstream's linear probe (--pretrained) and its DeiT conversion read. */
  "moco-v3": async ({ read, output, notes, files }) => {
    const { backbone, spec, recognised } = read;
    if (spec.arch === null) notes.push('the sizes are those of no named architecture: "arch" is "custom"');
    noteHeads(spec, notes, "upstream builds ViTs with 12 heads", 12);
    noteEps(spec, notes, "upstream's");
    return written(backbone, (tensors) => writeCheckpoint(output, {
      epoch: recognised.epoch ?? 0,
      arch: spec.arch ?? "custom",
      state_dict: addPrefix(tensors, "module.base_encoder."),
      // Upstream's programs pass over keys that they do not know.
      encoder: encoderRecord(spec),
    }, files));
  },

  /** What upstream's convert_to_deit.py writes, key by key. */
  deit: async ({ read, output, which, notes, files }) => {
    const { recognised, backbone, spec } = read;
    noteHeads(spec, notes, "DeiT's code builds its ViTs with one head for each 64 of the width", spec.sizes.width / 64);
    noteEps(spec, notes, "DeiT's");
    noteStem(spec, notes, "DeiT's code");
    // Upstream leaves out `head.*`, which is a ViT's projector; that of a ResNet, `fc.*`, stays in.
    const kept = recognised.kind === "moco-v3"
      ? new OrderedDict([...encoderState(recognised, which)].filter(([key]) => !key.startsWith("head")))
      : backbone;
    if ([...kept.keys()].some((key) => key.startsWith("fc."))) {
      notes.push(
        "the projector (fc.*) of the pre-training is in the file too, as upstream's conversion leaves it: load it with strict=False, or " +
        "leave fc.* out",
      );
    }
    return written(kept, (model) => writeCheckpoint(output, { model }, files));
  },

  timm: async ({ read, output, notes, files }) => {
    const { backbone, spec } = read;
    noteStem(spec, notes, "timm");
    const call = timmCall(spec);
    if (call !== null) notes.push(`in Python: model = ${call}`);
    return writeBare(backbone, output, files);
  },

  torchvision: async ({ read, output, notes, files }) => {
    const { backbone, spec } = read;
    refuseStem(spec, "torchvision");
    const [height, width] = spec.imageSize ?? [0, 0];
    if (height !== width) {
      throw new ConvertError(`torchvision's ViT takes square images, and this one ${height}x${width}; convert to timm or huggingface`);
    }
    const call = torchvisionCall(spec);
    if (call !== null) notes.push(`in Python: model = ${call}`);
    const renamed = spec.sizes.family === "vit" ? rename(backbone, keyMaps["torchvision-vit"]) : backbone;
    return writeBare(renamed, output, files);
  },

  huggingface: async ({ read, output, notes, files }) => {
    const { backbone, spec } = read;
    refuseStem(spec, "transformers");
    const isVit = spec.sizes.family === "vit";
    if (isVit) requireHeads(spec);
    const keyMap = isVit ? keyMaps["huggingface-vit"] : keyMaps["huggingface-resnet"];
    const config = huggingfaceConfig(spec, [...backbone.values()][0]!.dtype);
    const parts: Tensor[] = [];
    try {
      const renamed = rename(backbone, keyMap, parts);
      await writeModelFolder(output, {
        "model.safetensors": (path) => writeCheckpoint(path, renamed, { format: "safetensors", metadata: { format: "pt" }, ...files }),
        "config.json": config,
        "preprocessor_config.json": preprocessorConfig(spec),
      }, files.files);
      const path = JSON.stringify(output);
      const call = isVit ? `ViTModel.from_pretrained(${path}, add_pooling_layer=False)` : `ResNetModel.from_pretrained(${path})`;
      notes.push(`in Python: model = transformers.${call}`);
      return renamed.size;
    } finally {
      for (const part of parts) part.dispose();
    }
  },

  /** Under our names, with what tells the heads beside them. */
  safetensors: async ({ read, output, files }) => {
    const { backbone, spec } = read;
    await writeCheckpoint(output, backbone, { format: "safetensors", metadata: encoderMetadata(spec), ...files });
    return backbone.size;
  },

  encoder: async ({ read, output, files }) => {
    const { backbone, spec } = read;
    return written(backbone, (tensors) => writeCheckpoint(output, {
      arch: spec.arch, state_dict: tensors, encoder: encoderRecord(spec),
    }, files));
  },

  onnx: async ({ read, output, notes, onnx, files }) => {
    noteNonFinite(read.backbone, notes);
    const { tensors } = await writeOnnx(read, output, onnx, files.files);
    return tensors;
  },
};

/** Warns of weights that make every feature NaN or infinite. */
function noteNonFinite(backbone: ReadonlyMap<string, Tensor>, notes: string[]): void {
  const bad = [...backbone].filter(([, tensor]) => !torch.scope(() => torch.isfinite(tensor).all().item()));
  if (bad.length === 0) return;
  const more = bad.length > 3 ? ` and ${bad.length - 3} more` : "";
  notes.push(
    `${bad.slice(0, 3).map(([key]) => key).join(", ")}${more} hold values that are not finite, and so will the features; the training ` +
    "diverged or the file is damaged: take an earlier checkpoint",
  );
}

/** Writes a state dict by itself, in the format that the file's name tells. */
async function writeBare(state: OrderedDict<string, Tensor>, output: string, files: Job["files"]): Promise<number> {
  if (!output.endsWith(".safetensors")) return written(state, (tensors) => writeCheckpoint(output, tensors, files));
  await writeCheckpoint(output, state, { format: "safetensors", metadata: { format: "pt" }, ...files });
  return state.size;
}

/**
 * Gives `write` the tensors, those that are a part of a larger storage as copies: `torch.save`'s format keeps whole storages, and so the
 * rest of what was in the source.
 */
async function written(state: OrderedDict<string, Tensor>, write: (state: OrderedDict<string, Tensor>) => Promise<void>): Promise<number> {
  const copies: Tensor[] = [];
  try {
    const compact = new OrderedDict([...state].map(([key, tensor]) => {
      if (torch.storageOf(tensor).bytes === tensor.numel() * torch.dtypes[tensor.dtype].itemSize) return [key, tensor] as const;
      const copy = torch.keep(torch.noGrad(() => tensor.clone({ memoryFormat: "contiguous_format" })));
      copies.push(copy);
      return [key, copy] as const;
    }));
    await write(compact);
    return compact.size;
  } finally {
    for (const copy of copies) copy.dispose();
  }
}

/** The tensors under the other library's names; a tensor that is several there is given as views of it, which go into `parts`. */
function rename(backbone: ReadonlyMap<string, Tensor>, keyMap: KeyMap, parts: Tensor[] = []): OrderedDict<string, Tensor> {
  const renamed = new OrderedDict<string, Tensor>();
  for (const [key, tensor] of backbone) {
    const names = keyMap.theirs(key);
    if (names === undefined) throw new ConvertError(`${key} has no counterpart in the layout ${keyMap.layout.name}`);
    if (tensor.shape.length > 0 && (tensor.shape[0] as number) % names.length !== 0) {
      throw new ConvertError(`${key} has the shape [${tensor.shape.join(", ")}], which does not fall into ${names.length} equal parts`);
    }
    const pieces = names.length === 1 ? [tensor] : (torch.noGrad(() => tensor.chunk(names.length, 0)) as Tensor[]);
    if (names.length > 1) parts.push(...pieces.map((each) => torch.keep(each)));
    names.forEach((name, i) => renamed.set(name, pieces[i]!));
  }
  return renamed;
}

function requireHeads({ sizes, numHeads }: EncoderSpec): void {
  if (sizes.family === "vit" && numHeads === null) {
    throw new ConvertError(
      `the number of attention heads is unknown, and no convention fits the width ${sizes.width}; give it with --heads`,
    );
  }
}

function noteHeads({ sizes, numHeads }: EncoderSpec, notes: string[], what: string, theirs: number): void {
  if (sizes.family === "vit" && numHeads !== null && numHeads !== theirs) {
    notes.push(`this ViT has ${numHeads} heads, and ${what}: with another number the same weights give other features`);
  }
}

function noteEps({ sizes, normEps }: EncoderSpec, notes: string[], whose: string): void {
  if (sizes.family === "vit" && normEps !== NORM_EPS) {
    notes.push(`the LayerNorms of this ViT have the eps ${normEps}, and ${whose} ${NORM_EPS}: the features there differ a little`);
  }
}

function noteStem({ sizes }: EncoderSpec, notes: string[], whose: string): void {
  if (sizes.family === "vit" && sizes.stem === "conv") {
    notes.push(`${whose} has no convolutional stem: the result fits upstream's vit_conv models only`);
  }
}

function refuseStem({ sizes }: EncoderSpec, whose: string): void {
  if (sizes.family !== "vit" || sizes.stem === "patch") return;
  throw new ConvertError(
    `${whose} has no ViT with a convolutional stem, so nothing could load the result; convert to timm, moco-v3 or encoder`,
  );
}
