import * as torch from "../../torch/index.js";
import { Tensor } from "../../torch/index.js";
import type { ByteSink } from "../files/durableFile.js";
import { CheckpointError, printable, type CheckpointSite } from "../error.js";
import { writeElements } from "../writeElements.js";
import { elementTypeOf, writableDTypes } from "./elementTypes.js";
import { LONGEST_HEADER, METADATA_KEY } from "./header.js";
import { PREFIX_BYTES } from "./parseSafetensors.js";

/** The header is filled up to a multiple of this, so that the data are aligned in the file. */
const ALIGNMENT = 8;

interface NamedTensor {
  readonly name: string;
  readonly tensor: Tensor;
  readonly type: string;
  readonly itemSize: number;
  /** Place of the type in the format's order of alignment. */
  readonly rank: number;
}

/**
 * Prepares a safetensors file: the returned function writes it, from the tensors' own memory.
 *
 * The file is what Python's `save_file` would write, to the byte: tensors in the order of falling alignment, then of names, and metadata
 * `{ format: "pt" }`, without which transformers refuses a file. Each tensor is written whole and contiguous: those that share memory
 * are written once each, as the format cannot share (Python's refuses them, and leaves it to the user to copy).
 *
 * @param stateDict - Map or plain object of tensors, of any device and strides
 * @param metadata - text to keep beside them; overrides and adds to `format`
 * @throws CheckpointError that names the key of what cannot be written
 */
export function prepareSafetensors(
  stateDict: unknown, site: CheckpointSite, metadata: Readonly<Record<string, string>> = {},
): (sink: ByteSink) => Promise<void> {
  const tensors = namedTensors(stateDict, site).sort((a, b) => b.rank - a.rank || compareUtf8(a.name, b.name));
  const described = tensors.map(({ name, tensor, type, itemSize }) => ({ name, type, shape: tensor.shape, bytes: tensor.numel() * itemSize }));
  const header = safetensorsHeader(described, { format: "pt", ...checkMetadata(metadata, site) }, site);
  return async (sink) => {
    await sink.write(header);
    for (const { tensor, itemSize } of tensors) await writeElements(sink, () => tensor, itemSize);
  };
}

function namedTensors(stateDict: unknown, site: CheckpointSite): NamedTensor[] {
  const fail = (reason: string, entry?: string): never => {
    throw new CheckpointError({ ...site, entry }, null, reason);
  };
  if (!(stateDict instanceof Map) && !isPlainObject(stateDict)) {
    fail('safetensors holds tensors by name; give a Map or a plain object of tensors, or write with format "zip"');
  }
  const entries: [unknown, unknown][] = stateDict instanceof Map ? [...stateDict] : Object.entries(stateDict as object);
  return entries.map(([key, value]) => {
    if (typeof key !== "string") return fail(`the key ${String(key)} is a ${typeof key}; safetensors has strings as names`);
    if (key === METADATA_KEY) return fail("safetensors keeps this name for itself; rename the tensor", key);
    if (!isWellFormed(key)) return fail("the name has half a surrogate pair, which UTF-8 cannot hold; rename the tensor", key);
    if (!(value instanceof Tensor)) {
      return fail(
        `it is ${kindOf(value)}, and safetensors holds tensors only; leave it out (a state_dict alone is what other programs expect), ` +
        'put text into the option metadata, or write with format "zip"', key,
      );
    }
    if (value.disposed) return fail("the tensor has been disposed of; keep() it until the file is written", key);
    const type = elementTypeOf(value.dtype);
    if (type === undefined) {
      return fail(
        `safetensors has no ${value.dtype}; convert the tensor to one of ${writableDTypes.join(", ")}, or write with format "zip"`, key,
      );
    }
    try {
      torch.storageOf(value);
    } catch (error) {
      const reason = `the tensor has no plain storage: ${(error as Error).message}; convert it to a dense one first`;
      throw new CheckpointError({ ...site, entry: key }, null, reason, { cause: error });
    }
    return { name: key, tensor: value, type: type.element.name, itemSize: type.element.bits / 8, rank: type.rank };
  });
}

/** A tensor as a header describes it. */
export interface DescribedTensor {
  name: string;
  /** As the format calls it: `F32`, `I64`, `U8`, ... */
  type: string;
  shape: readonly number[];
  bytes: number;
}

/**
 * The begin of a file, up to the tensors' bytes, which follow in the same order without gaps.
 *
 * @throws CheckpointError when the header is longer than the format allows
 */
export function safetensorsHeader(tensors: readonly DescribedTensor[], metadata: Readonly<Record<string, string>>, site: CheckpointSite): Buffer {
  let position = 0;
  const fields = tensors.map(({ name, type, shape, bytes }) => {
    const begin = position;
    position += bytes;
    return `${JSON.stringify(name)}:${JSON.stringify({ dtype: type, shape, data_offsets: [begin, position] })}`;
  });
  const text = Buffer.from(`{${[`"${METADATA_KEY}":${JSON.stringify(metadata)}`, ...fields].join(",")}}`, "utf8");
  const length = Math.ceil(text.length / ALIGNMENT) * ALIGNMENT;
  if (length > LONGEST_HEADER) {
    throw new CheckpointError(
      site, null, `names and metadata make a header of ${length} bytes; the limit of the format is ${LONGEST_HEADER}: write several files`,
    );
  }
  const header = Buffer.alloc(PREFIX_BYTES + length, " ");
  header.writeBigUInt64LE(BigInt(length), 0);
  text.copy(header, PREFIX_BYTES);
  return header;
}

function checkMetadata(metadata: Readonly<Record<string, string>>, site: CheckpointSite): Record<string, string> {
  const here = { ...site, entry: METADATA_KEY };
  for (const [key, text] of Object.entries(metadata)) {
    if (typeof text !== "string") {
      throw new CheckpointError(here, null, `${printable(key)} is ${kindOf(text)}; metadata are strings: write String(value) or its JSON`);
    }
    if (!isWellFormed(key) || !isWellFormed(text)) {
      throw new CheckpointError(here, null, `${printable(key)} has half a surrogate pair, which UTF-8 cannot hold; change the text`);
    }
  }
  return { ...metadata };
}

/** Order of the names' UTF-8 bytes, which is that of code points; JavaScript's own is that of UTF-16. */
function compareUtf8(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a, "utf8"), Buffer.from(b, "utf8"));
}

function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}

function isPlainObject(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value !== "object") return `a ${typeof value}`;
  return Array.isArray(value) ? "an array" : `a ${isPlainObject(value) ? "plain object" : value.constructor.name}`;
}
