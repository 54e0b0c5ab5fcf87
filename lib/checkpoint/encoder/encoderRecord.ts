import { OrderedDict, PythonFloat } from "../pythonValues.js";
import type { EncoderSpec } from "./encoderSpec.js";
import { fieldsOf } from "./fields.js";

/** What an encoder file of ours says about its encoder, besides the tensors. */
export interface EncoderRecord {
  arch: string | null;
  numHeads: unknown;
  imageSize: unknown;
  normEps: unknown;
}

/** Where the record lies in a checkpoint's value, and its version in the metadata of a safetensors file. */
const RECORD_KEY = "encoder";
const RECORD_FORMAT = 1;
export const METADATA_KEY = "moco_v3_encoder";

/**
 * The record in a checkpoint of ours: in an encoder file, in a safetensors file's metadata, or in a pre-training checkpoint; null in files
 * of others. Values are as found, unchecked.
 */
export function readEncoderRecord(value: unknown): EncoderRecord | null {
  const holder = fieldsOf(value);
  const record = fieldsOf(holder[RECORD_KEY]);
  if (record.format === RECORD_FORMAT) {
    const { num_heads: numHeads, image_size: imageSize, norm_eps: normEps } = record;
    return { arch: textOrNull(holder.arch), numHeads, imageSize, normEps };
  }
  const metadata = fieldsOf(value instanceof OrderedDict ? value.attributes?.metadata : undefined);
  if (metadata[METADATA_KEY] === String(RECORD_FORMAT)) {
    const { arch, num_heads: numHeads, image_size: imageSize, norm_eps: normEps } = metadata;
    const pair = textOrNull(imageSize)?.split("x").map(numberOf);
    return { arch: textOrNull(arch), numHeads: numberOf(numHeads), imageSize: pair, normEps: numberOf(normEps) };
  }
  return null;
}

/** Attention heads that a run of ours has left in its checkpoint; undefined in others. */
export function recordedHeads(value: unknown): unknown {
  return fieldsOf(fieldsOf(value).moco_v3_run).num_heads ?? undefined;
}

/** Height and width of the images that a run of ours has left in its checkpoint; undefined in others. */
export function recordedImageSize(value: unknown): unknown {
  return fieldsOf(fieldsOf(value).moco_v3_run).image_size ?? undefined;
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function numberOf(text: unknown): number | undefined {
  return typeof text === "string" && text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : undefined;
}

/** The record for a file of ours: plain values, which Python reads too. */
export function encoderRecord({ sizes, numHeads, imageSize, normEps }: EncoderSpec): Record<string, unknown> {
  return sizes.family === "vit"
    ? {
        format: RECORD_FORMAT, num_heads: numHeads, image_size: imageSize, patch_size: sizes.patchSize, stem: sizes.stem,
        width: sizes.width, depth: sizes.depth, mlp_ratio: new PythonFloat(sizes.mlpRatio), norm_eps: normEps,
      }
    : {
        format: RECORD_FORMAT, block: sizes.block, layers: sizes.layers, width: sizes.width, groups: sizes.groups,
        width_per_group: sizes.widthPerGroup,
      };
}

/** The same for a safetensors file, whose metadata are text. */
export function encoderMetadata(spec: EncoderSpec): Record<string, string> {
  const { format, ...record } = encoderRecord(spec);
  const text = (value: unknown): string => (Array.isArray(value) ? value.join("x") : String(value));
  return {
    format: "pt",
    [METADATA_KEY]: String(format),
    ...(spec.arch === null ? {} : { arch: spec.arch }),
    ...Object.fromEntries(Object.entries(record).flatMap(([name, value]) => (value === null ? [] : [[name, text(value)]]))),
  };
}
