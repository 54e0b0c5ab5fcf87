import type { DType } from "../../torch/dtype.js";
import { printable } from "../error.js";
import { cost, type CheckpointLimits } from "../limits.js";
import { elementTypeNamed, elementTypeNames, type ElementType } from "./elementTypes.js";
import type { HeaderTokens } from "./headerTokens.js";

/** Longest header that the reference implementation reads, in bytes. */
export const LONGEST_HEADER = 100_000_000;
/** The key under which a header keeps free text, so no tensor can have this name. */
export const METADATA_KEY = "__metadata__";

/** Bytes that a tensor with a storage of its own takes besides its elements, measured, libtorch's side of it included: 3 kB. */
const TENSOR_COST = 3072;

/** A tensor as the header tells it: its bytes are `[begin, end)` of the data, which follow the header. */
export interface HeaderTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
  /** Position of its entry in the file. */
  readonly at: number;
}

export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>;
  /** In the order of the header. Each one's size agrees with its shape and dtype; how they lie together is not checked yet. */
  readonly tensors: readonly HeaderTensor[];
}

/**
 * Reads a header: `{"__metadata__": {"key": "text"}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}`.
 *
 * Stricter than the reference implementation, which passes over unknown fields of a tensor, lets the last of two equal names win,
 * and allows any white space around the object: readers that disagree about what a file holds are how one is tricked.
 *
 * @throws CheckpointError with the tensor's name as entry and the position in the file
 */
export function readHeader(tokens: HeaderTokens, limits: CheckpointLimits): SafetensorsHeader {
  let metadata: Map<string, string> | null = null;
  const tensors = new Map<string, HeaderTensor>();
  tokens.expect("{", "the header");
  if (!tokens.take("}")) {
    do {
      const at = tokens.position;
      const name = tokens.string("a tensor's name");
      if (tensors.has(name) || (name === METADATA_KEY && metadata !== null)) {
        tokens.fail(`the header has ${printable(name)} twice; readers would disagree about which one counts`, at);
      }
      tokens.expect(":", "the header");
      if (name === METADATA_KEY) metadata = readMetadata(tokens);
      else tensors.set(name, readTensor(tokens, name, at, limits));
    } while (tokens.another("}", "the header"));
  }
  tokens.finish();
  return { metadata: metadata ?? new Map<string, string>(), tensors: [...tensors.values()] };
}

function readMetadata(tokens: HeaderTokens): Map<string, string> {
  tokens.entry = METADATA_KEY;
  const metadata = new Map<string, string>();
  tokens.expect("{", "the metadata");
  if (!tokens.take("}")) {
    do {
      const at = tokens.position;
      const key = tokens.string("a key of the metadata");
      if (metadata.has(key)) tokens.fail(`the metadata have ${printable(key)} twice`, at);
      tokens.expect(":", "the metadata");
      tokens.charge(cost.dictEntry, "the metadata");
      metadata.set(key, tokens.string(`the metadata's ${printable(key)}`));
    } while (tokens.another("}", "the metadata"));
  }
  tokens.entry = undefined;
  return metadata;
}

function readTensor(tokens: HeaderTokens, name: string, at: number, limits: CheckpointLimits): HeaderTensor {
  tokens.entry = name;
  tokens.charge(TENSOR_COST, "a tensor");
  let type: ElementType | null = null;
  let shape: number[] | null = null;
  let offsets: number[] | null = null;
  tokens.expect("{", "a tensor");
  if (!tokens.take("}")) {
    do {
      const here = tokens.position;
      const field = tokens.string("a tensor's field");
      tokens.expect(":", "a tensor");
      switch (field) {
        case "dtype":
          if (type !== null) tokens.fail("the tensor has two dtypes", here);
          type = readType(tokens);
          break;
        case "shape":
          if (shape !== null) tokens.fail("the tensor has two shapes", here);
          shape = readSizes(tokens, "a shape", limits.dimensions);
          break;
        case "data_offsets":
          if (offsets !== null) tokens.fail("the tensor has data_offsets twice", here);
          offsets = readSizes(tokens, "data_offsets", 2);
          break;
        default:
          tokens.fail(`the tensor has a field ${printable(field)}; expected dtype, shape and data_offsets`, here);
      }
    } while (tokens.another("}", "a tensor"));
  }
  if (type?.dtype == null || shape === null || offsets === null) {
    const missing = type === null ? "dtype" : shape === null ? "shape" : "data_offsets";
    tokens.fail(`the tensor has no ${missing}`, at);
  }
  if (offsets.length !== 2) tokens.fail(`data_offsets has ${offsets.length} numbers; expected begin and end`, at);
  const [begin, end] = offsets as [number, number];
  if (end < begin) tokens.fail(`data_offsets ends at ${end}, before its begin at ${begin}`, at);
  const bytes = sizeOf(shape, type.bits);
  if (bytes === null) tokens.fail(`the shape [${shape.join(", ")}] overflows`, at);
  if (bytes !== end - begin) {
    tokens.fail(
      `shape [${shape.join(", ")}] of ${type.name} takes ${bytes} bytes, but data_offsets [${begin}, ${end}] hold ${end - begin}`, at,
    );
  }
  tokens.entry = undefined;
  return { name, dtype: type.dtype, shape, begin, end, at };
}

function readType(tokens: HeaderTokens): ElementType {
  const at = tokens.position;
  const name = tokens.string("a dtype");
  const type = elementTypeNamed(name);
  if (type === undefined) tokens.fail(`the dtype ${printable(name)} is unknown; expected one of ${elementTypeNames.join(", ")}`, at);
  if (type.dtype === null) tokens.unsupported(name, at);
  return type;
}

function readSizes(tokens: HeaderTokens, what: string, most: number): number[] {
  const at = tokens.position;
  const sizes: number[] = [];
  tokens.expect("[", what);
  if (tokens.take("]")) return sizes;
  do {
    if (sizes.length === most) tokens.fail(`${what} has more than ${most} numbers`, at);
    sizes.push(tokens.size(`a number of ${what}`));
  } while (tokens.another("]", what));
  return sizes;
}

/** Bytes of a contiguous tensor; null when the shape's product, empty dimensions left out, passes 2^53. */
function sizeOf(shape: readonly number[], bits: number): number | null {
  let bytes = bits / 8;
  for (const size of shape) {
    bytes *= Math.max(1, size);
    if (!Number.isSafeInteger(bytes)) return null;
  }
  return shape.includes(0) ? 0 : bytes;
}
