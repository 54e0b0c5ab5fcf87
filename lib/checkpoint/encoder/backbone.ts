import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import { printable } from "../error.js";
import { selectPrefix } from "../keys.js";
import { OrderedDict } from "../pythonValues.js";
import { missingKeys, type EncoderSizes, resnetSizes, vitSizes } from "./architecture.js";
import { ConvertError } from "./convertError.js";
import type { Place } from "./keyMap.js";
import { detectLayout } from "./layouts/index.js";
import type { RecognisedCheckpoint } from "./recognise.js";

/** Which of the two encoders of a pre-training checkpoint: the one that was trained, or the one that follows it. */
export type WhichEncoder = "base" | "momentum";

/** The encoder in a pre-training checkpoint, with its projector, under the names behind `base_encoder.`; any other state as it is. */
export function encoderState({ kind, state, prefix }: RecognisedCheckpoint, which: WhichEncoder = "base"): OrderedDict<string, Tensor> {
  if (kind !== "moco-v3") {
    if (which === "momentum") {
      throw new ConvertError(`a momentum encoder was asked for, and only pre-training checkpoints have one; this is of kind ${kind}`);
    }
    return state;
  }
  const start = `${prefix}${which}_encoder.`;
  const encoder = selectPrefix(state, start);
  if (encoder.size === 0) throw new ConvertError(`the checkpoint has no ${which} encoder: no key begins with ${start}`);
  return encoder;
}

interface Found {
  place: Place;
  /** By the number of the part. */
  tensors: Map<number, Tensor>;
}

/**
 * The encoder's tensors under our names (those of upstream, timm's and torchvision's), in our order, without any head. They are the
 * checkpoint's own tensors, except those which the file's layout has split, and batch counts that old files lack: these are new.
 *
 * @param which for pre-training checkpoints; the base encoder is what upstream evaluates
 * @throws ConvertError for a key that belongs to nothing known, a missing one, or no encoder at all
 */
export function backboneOf(recognised: RecognisedCheckpoint, which: WhichEncoder = "base"): OrderedDict<string, Tensor> {
  const state = encoderState(recognised, which);
  const layout = detectLayout(state.keys());
  if (layout === null) {
    const first = [...state.keys()].slice(0, 3).map((key) => printable(key));
    throw new ConvertError(
      first.length === 0
        ? "the file holds no state dict, so no encoder; give a checkpoint of a ViT or a ResNet"
        : `the tensors (${first.join(", ")}, ...) are of neither a ViT nor a ResNet in a known layout; give a checkpoint of one`,
    );
  }
  const parts = new Map<string, Found>();
  for (const [key, tensor] of state) {
    const place = layout.keyMap.place(key.startsWith(layout.prefix) ? key.slice(layout.prefix.length) : key);
    if (place === null) continue;
    if (place === undefined) throw new ConvertError(unknownKey(key));
    const known = parts.get(place.ours) ?? { place, tensors: new Map<number, Tensor>() };
    if (known.tensors.has(place.part)) throw new ConvertError(`the file has ${place.ours} twice, the second time as ${printable(key)}`);
    parts.set(place.ours, { ...known, tensors: known.tensors.set(place.part, tensor) });
  }
  const sorted = [...parts.values()].sort((a, b) => compareOrders(a.place.order, b.place.order));
  // All is checked before any tensor is made.
  requireAll(sorted, layout.keyMap.layout.family);
  const backbone = new OrderedDict<string, Tensor>();
  for (const { place, tensors } of sorted) {
    backbone.set(place.ours, place.parts === 1 ? tensors.get(0)! : joined(tensors));
    const count = batchCountOf(place.ours);
    if (count !== null && !parts.has(count)) backbone.set(count, torch.keep(torch.zeros([], { dtype: "int64" })));
  }
  return backbone;
}

/**
 * The sizes of a backbone under our names.
 *
 * @throws ConvertError where its tensors do not tell them
 */
export function sizesOf(backbone: ReadonlyMap<string, Tensor>): EncoderSizes {
  const shapes = new Map([...backbone].map(([key, tensor]) => [key, tensor.shape]));
  const sizes = shapes.has("conv1.weight") ? resnetSizes(shapes) : vitSizes(shapes);
  if (sizes !== null) return sizes;
  throw new ConvertError(
    "the tensors' shapes are those of no ViT with a class token and of no ResNet; the file is damaged or of another model",
  );
}

/** Our tensor out of its parts, which lie one below the other in it. */
function joined(parts: ReadonlyMap<number, Tensor>): Tensor {
  const list = Array.from({ length: parts.size }, (_, part) => parts.get(part)!);
  return torch.keep(torch.noGrad(() => torch.cat(list)));
}

function requireAll(found: readonly Found[], family: "vit" | "resnet"): void {
  for (const { place: { ours, parts }, tensors } of found) {
    if (tensors.size !== parts) throw new ConvertError(`${ours} needs ${parts} tensors, and the file has ${tensors.size} of them`);
    const shapes = new Set([...tensors.values()].map(({ shape }) => `[${shape.join(", ")}]`));
    if (shapes.size > 1) {
      throw new ConvertError(`${ours} consists of tensors of different shapes, ${[...shapes].join(" and ")}; the file is damaged`);
    }
  }
  const keys = found.flatMap(({ place: { ours } }) => [ours, batchCountOf(ours) ?? ours]);
  const missing = missingKeys(keys, family);
  if (missing.length === 0) return;
  const more = missing.length > 5 ? ` and ${missing.length - 5} more` : "";
  throw new ConvertError(`the encoder lacks ${missing.slice(0, 5).join(", ")}${more}; give a file with the whole encoder`);
}

/** The key of the batch count beside a running variance. Files of PyTorch before 0.4.1 lack it, and evaluation does not need it. */
function batchCountOf(key: string): string | null {
  return key.endsWith(".running_var") ? key.replace(/running_var$/, "num_batches_tracked") : null;
}

function compareOrders(a: readonly number[], b: readonly number[]): number {
  for (const [i, value] of a.entries()) if (value !== b[i]) return value - (b[i] as number);
  return 0;
}

/** Parts of other libraries' models that ours have no counterpart for. */
const UNSUPPORTED: readonly [pattern: RegExp, what: string][] = [
  [/dist(illation)?_token$|head_dist/, "the second class token of a distilled DeiT"],
  [/reg(ister)?_tokens?$/, "register tokens"],
  [/\.ls[12]\.gamma$|\.gamma_[12]$|layer_scale|lambda1$/, "a layer scale"],
  [/\.[qk]_norm\./, "normalised queries and keys"],
  [/(^|\.)fc_norm\./, "features that are the mean over the patches, not the class token"],
  [/(^|\.)norm_pre\./, "a normalisation before the first block"],
  [/attn_pool/, "attention pooling"],
  [/rel_pos|relative_position/, "relative positions"],
  [/\.w12\.|\.w3\.|fc1_[gx]\./, "gated MLPs"],
  [/^(.*\.)?conv1\.\d+\./, "a stem of several convolutions"],
];

function unknownKey(key: string): string {
  const what = UNSUPPORTED.find(([pattern]) => pattern.test(key))?.[1];
  return what === undefined
    ? `the key ${printable(key)} belongs to no part of a known encoder; remove it from the file if the model works without it`
    : `the key ${printable(key)} belongs to ${what}, which the models here do not have, so the encoder cannot be used here`;
}
