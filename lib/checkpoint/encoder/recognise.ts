import { Tensor } from "../../torch/index.js";
import { hasPrefix, selectPrefix } from "../keys.js";
import { OrderedDict } from "../pythonValues.js";
import {
  architectureNames, architectureOf, conventionalHeads, MOCO_HEADS, resnetSizes, vitSizes, type EncoderSizes, type Shapes,
} from "./architecture.js";
import { readEncoderRecord, recordedHeads, recordedImageSize, type EncoderRecord } from "./encoderRecord.js";
import { fieldsOf, positive, sizeOf, wholeNumber } from "./fields.js";
import { gridOfFixedPositions } from "./fixedPositions.js";
import type { KeyMap } from "./keyMap.js";
import { detectLayout } from "./layouts/index.js";

/** What a file is. The names are also those of `moco convert --to`. */
export type CheckpointKind =
  | "moco-v3" | "linear-probe" | "encoder" | "deit" | "timm" | "torchvision" | "huggingface" | "state-dict" | "unknown";

/** What a checkpoint was found to be. */
export interface RecognisedCheckpoint {
  kind: CheckpointKind;
  family: "vit" | "resnet" | null;
  /** Name in the registry of models (vit_small, resnet50, ...), when the file tells it or the shapes do; `archFrom` says which. */
  arch: string | null;
  archFrom: "file" | "shapes" | null;
  /** ViT: length of a token. ResNet: channels of the stem. */
  width: number | null;
  /** ViT: blocks. ResNet: 18, 34, 50, ... */
  depth: number | null;
  /** Of a ViT. From our own record, a Hugging Face config, or a rule: 12 in MoCo v3's models, one for 64 of the width in others. */
  numHeads: number | null;
  numHeadsFrom: "file" | "config" | "convention" | null;
  patchSize: number | null;
  /** Height and width in pixels; null where the positions are no square grid, or it is a ResNet, and nothing else tells. */
  imageSize: [number, number] | null;
  stem: "patch" | "conv" | null;
  mlpRatio: number | null;
  /** Of a ViT's LayerNorms, where the file tells it; null means 1e-6. */
  normEps: number | null;
  /** The position embedding is the fixed 2-D sine-cosine table: the weights come from MoCo v3 even when the file does not say so. */
  fixedPositions: boolean | null;
  /** Outputs of the classifier, where there is one. */
  numClasses: number | null;
  epoch: number | null;
  optimizer: "adamw" | "lars" | "sgd" | null;
  precision: "fp16" | "fp32" | "bf16" | null;
  /** Every tensor of the model under the file's own keys. */
  state: OrderedDict<string, Tensor>;
  /** "module." or what else stood before every key of the model. */
  prefix: string;
}

/**
 * Finds out what a checkpoint's value is: who wrote it, which model it holds, and what is known about that. Takes any value; one that
 * holds no model is "unknown".
 *
 * @param value what `readCheckpoint` gave
 * @param config the file `config.json` beside the weights, in a Hugging Face folder
 */
export function recogniseCheckpoint(value: unknown, config: Record<string, unknown> = {}): RecognisedCheckpoint {
  const holder = fieldsOf(value);
  const state = tensorsOf(value) ?? firstState(holder) ?? new OrderedDict<string, Tensor>();
  const pretraining = /^(module\.)?base_encoder\./.exec([...state.keys()].find((key) => key.includes("base_encoder.")) ?? "");
  const encoder = pretraining === null ? state : selectPrefix(state, pretraining[0]);
  const layout = detectLayout(encoder.keys());
  const prefix = pretraining?.[1] ?? layout?.prefix ?? (hasPrefix(state) ? "module." : "");
  const model = layout === null ? null : modelFacts(encoder, layout.keyMap, layout.prefix);
  const record = readEncoderRecord(value);
  const kind = kindOf({ value, holder, state, record, keyMap: layout?.keyMap ?? null, isPretraining: pretraining !== null, model });
  const fileArch = [holder.arch, record?.arch].find((each) => typeof each === "string" && architectureNames.includes(each));
  const arch = (fileArch as string | undefined) ?? model?.arch ?? null;
  return {
    kind,
    family: layout?.keyMap.layout.family ?? null,
    arch,
    archFrom: arch === null ? null : fileArch !== undefined ? "file" : "shapes",
    width: model?.sizes?.width ?? null,
    depth: model?.sizes?.depth ?? null,
    ...headsOf(kind, model, record?.numHeads ?? recordedHeads(value), config),
    ...geometryOf(model, [record?.imageSize, recordedImageSize(value), config.image_size]),
    normEps: positive(record?.normEps) ?? positive(config.layer_norm_eps),
    fixedPositions: model?.sizes?.family === "vit" ? model.fixedGrid !== null : null,
    numClasses: model?.numClasses ?? null,
    epoch: wholeNumber(holder.epoch),
    optimizer: optimizerOf(holder.optimizer),
    precision: precisionOf(holder),
    state,
    prefix,
  };
}

interface ModelFacts {
  sizes: EncoderSizes | null;
  arch: string | null;
  numClasses: number | null;
  fixedGrid: [number, number] | null;
}

function modelFacts(encoder: ReadonlyMap<string, Tensor>, keyMap: KeyMap, prefix: string): ModelFacts {
  const tensors = new Map<string, Tensor>();
  for (const [key, tensor] of encoder) {
    const place = key.startsWith(prefix) ? keyMap.place(key.slice(prefix.length)) : undefined;
    if (place && place.parts === 1) tensors.set(place.ours, tensor);
  }
  const shapes: Shapes = new Map([...tensors].map(([key, tensor]) => [key, tensor.shape]));
  const sizes = keyMap.layout.family === "vit" ? vitSizes(shapes) : resnetSizes(shapes);
  // Classifiers stand behind the encoder's prefix or, in Hugging Face's files, without one.
  const classifiers = keyMap.layout.classifiers.map((key) => encoder.get(prefix + key) ?? encoder.get(key));
  const classifier = classifiers.find((each) => each !== undefined);
  const positions = tensors.get("pos_embed");
  return {
    sizes,
    arch: sizes && architectureOf(sizes),
    numClasses: classifier?.ndim === 2 ? (classifier.shape[0] as number) : null,
    fixedGrid: sizes?.family === "vit" && positions ? gridOfFixedPositions(positions) : null,
  };
}

interface KindEvidence {
  value: unknown;
  holder: Record<string, unknown>;
  state: ReadonlyMap<string, Tensor>;
  record: EncoderRecord | null;
  keyMap: KeyMap | null;
  isPretraining: boolean;
  model: ModelFacts | null;
}

function kindOf({ value, holder, state, record, keyMap, isPretraining, model }: KindEvidence): CheckpointKind {
  if (isPretraining) return "moco-v3";
  if (record !== null) return "encoder";
  if (state.size === 0) return "unknown";
  const bare = tensorsOf(value) !== null;
  const layout = keyMap?.layout.name;
  if (!bare && "best_acc1" in holder && "state_dict" in holder && trainsClassifierOnly(holder.optimizer)) return "linear-probe";
  switch (layout) {
    case "huggingface-vit": case "huggingface-resnet": return "huggingface";
    case "torchvision-vit": return "torchvision";
    // torchvision's own training keeps more beside the model; upstream's DeiT conversion of a ResNet does not.
    case "resnet": return !bare && tensorsOf(holder.model) !== null && Object.keys(holder).length === 1 ? "deit" : "torchvision";
    case "vit":
      if (!bare && tensorsOf(holder.model) !== null) return "deit";
      // Our own positions and no classifier: nothing that timm would make.
      return model?.fixedGrid && model.numClasses === null ? "state-dict" : "timm";
    default: return "state-dict";
  }
}

/** A linear probe's optimiser has the classifier's weight and bias only. Without an optimiser nothing speaks against it. */
function trainsClassifierOnly(optimizer: unknown): boolean {
  const groups = fieldsOf(optimizer).param_groups;
  const params = Array.isArray(groups) && groups.length === 1 ? fieldsOf(groups[0]).params : undefined;
  return !Array.isArray(groups) || (Array.isArray(params) && params.length <= 2);
}

function headsOf(
  kind: CheckpointKind, model: ModelFacts | null, recorded: unknown, config: Record<string, unknown>,
): Pick<RecognisedCheckpoint, "numHeads" | "numHeadsFrom"> {
  if (model?.sizes?.family !== "vit") return { numHeads: null, numHeadsFrom: null };
  const { width } = model.sizes;
  const divides = (heads: unknown): number | null => {
    const count = wholeNumber(heads);
    return count !== null && count > 0 && width % count === 0 ? count : null;
  };
  const fromFile = divides(recorded);
  if (fromFile !== null) return { numHeads: fromFile, numHeadsFrom: "file" };
  const fromConfig = divides(config.num_attention_heads);
  if (fromConfig !== null) return { numHeads: fromConfig, numHeadsFrom: "config" };
  const ofMoco = ["moco-v3", "linear-probe", "encoder"].includes(kind) || model.fixedGrid !== null;
  const conventional = divides(ofMoco ? MOCO_HEADS : conventionalHeads(width));
  return { numHeads: conventional, numHeadsFrom: conventional === null ? null : "convention" };
}

function geometryOf(
  model: ModelFacts | null, imageSizes: readonly unknown[],
): Pick<RecognisedCheckpoint, "patchSize" | "imageSize" | "stem" | "mlpRatio"> {
  if (model?.sizes?.family !== "vit") {
    return { patchSize: null, imageSize: imageSizes.map(sizeOf).find((size) => size !== null) ?? null, stem: null, mlpRatio: null };
  }
  const { patchSize, positions, stem, mlpRatio } = model.sizes;
  const told = imageSizes.map(sizeOf).find((size) => {
    return size !== null && patchSize !== null && (size[0] / patchSize) * (size[1] / patchSize) === positions;
  });
  const side = Math.sqrt(positions);
  const grid = model.fixedGrid ?? (Number.isInteger(side) ? [side, side] : null);
  const counted: [number, number] | null = grid === null || patchSize === null ? null : [grid[0]! * patchSize, grid[1]! * patchSize];
  return { patchSize, imageSize: told ?? counted, stem, mlpRatio };
}

function optimizerOf(optimizer: unknown): RecognisedCheckpoint["optimizer"] {
  const groups = fieldsOf(optimizer).param_groups;
  const group = Array.isArray(groups) ? fieldsOf(groups[0]) : {};
  if ("betas" in group) return "adamw";
  if ("trust_coefficient" in group) return "lars";
  return "momentum" in group ? "sgd" : null;
}

/** Upstream's scaler has a state only where it scales, which it does for float16. */
function precisionOf(holder: Record<string, unknown>): RecognisedCheckpoint["precision"] {
  const own = fieldsOf(fieldsOf(fieldsOf(holder.moco_v3_run).facts).recipe).precision;
  if (own === "fp16" || own === "fp32" || own === "bf16") return own;
  if (typeof holder.scaler !== "object" || holder.scaler === null) return null;
  return Object.keys(fieldsOf(holder.scaler)).length > 0 ? "fp16" : "fp32";
}

/** The state dict of a training checkpoint. */
function firstState(holder: Record<string, unknown>): OrderedDict<string, Tensor> | null {
  for (const key of ["state_dict", "model", "state_dict_ema", "model_ema", "model_state_dict", "encoder"]) {
    const state = tensorsOf(holder[key]);
    if (state !== null) return state;
  }
  return null;
}

/** A dict all of whose values are tensors under strings, or null. */
function tensorsOf(value: unknown): OrderedDict<string, Tensor> | null {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Tensor) return null;
  const entries: [unknown, unknown][] = value instanceof Map ? [...value] : Object.entries(value);
  if (entries.length === 0 || !entries.every(([key, tensor]) => typeof key === "string" && tensor instanceof Tensor)) return null;
  return value instanceof OrderedDict ? (value as OrderedDict<string, Tensor>) : new OrderedDict(entries as [string, Tensor][]);
}

export { backboneOf, type WhichEncoder } from "./backbone.js";
