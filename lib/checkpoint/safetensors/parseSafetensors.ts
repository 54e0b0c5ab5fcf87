import { isUtf8 } from "node:buffer";
import { readParts, type ByteSource } from "../byteSource.js";
import { CheckpointError, printable } from "../error.js";
import type { MemoryBudget } from "../limits.js";
import type { ParsedCheckpoint, ParseOptions } from "../parsedCheckpoint.js";
import { PickleDict, PickleNamespace } from "../pickle/pickleObjects.js";
import { contiguousStrides, StorageReference, TensorReference } from "../references.js";
import { LONGEST_HEADER, readHeader, type HeaderTensor } from "./header.js";
import { HeaderTokens } from "./headerTokens.js";

/** Bytes of the header's length, a little-endian integer that the file begins with. */
export const PREFIX_BYTES = 8;

/**
 * Whether a file that begins with `head` is a safetensors file: a header of less than 4 GiB, and its `{`. No zip that could be read
 * looks so (its ninth byte would be of a compression method that does not exist), and no pickle of PyTorch's does.
 */
export function isSafetensors(head: Buffer): boolean {
  return head.length > PREFIX_BYTES && head.readUInt32LE(4) === 0 && head[PREFIX_BYTES] === "{".charCodeAt(0);
}

/**
 * Parses a safetensors file: the header's length, the header, and the tensors' bytes one behind another, each tensor with a storage of
 * its own. The value is an OrderedDict in the order of the bytes, as Python's `load_file` gives it, with the attribute `metadata`.
 *
 * @throws CheckpointError whose entry is the tensor's name and whose offset is the fault's position in the file
 */
export async function parseSafetensors(source: ByteSource, options: ParseOptions, budget: MemoryBudget): Promise<ParsedCheckpoint> {
  const { bytes, end: dataAt } = await readHeaderBytes(source, budget);
  const tokens = new HeaderTokens(bytes, PREFIX_BYTES, source.name, options.limits, budget);
  const { metadata, tensors } = readHeader(tokens, options.limits);
  const inOrder = orderByPosition(tensors, source.size - dataAt, dataAt, source.name);

  const value = new PickleDict(true);
  const storages = inOrder.map(({ name, dtype, shape, begin, end, at }) => {
    const reference = new StorageReference(name, "cpu", end - begin);
    budget.charge(end - begin + 32 * shape.length, `a tensor of ${end - begin} bytes`, { file: source.name, entry: name }, at);
    value.entries.set(name, new TensorReference(reference, dtype, 0, shape, contiguousStrides(shape), false));
    return { reference, load: (target: readonly Uint8Array[]) => readParts(source, dataAt + begin, target) };
  });
  value.attributes = new PickleDict(false);
  // A namespace becomes a plain object whatever its keys are, where a dict with a key such as "0" becomes a Map.
  const text = new PickleNamespace();
  text.fields = new PickleDict(false);
  for (const [key, line] of metadata) text.fields.entries.set(key, line);
  value.attributes.entries.set("metadata", text);
  return { value, format: "safetensors", storages };
}

async function readHeaderBytes(source: ByteSource, budget: MemoryBudget): Promise<{ bytes: Buffer; end: number }> {
  const site = { file: source.name };
  const prefix = Buffer.alloc(PREFIX_BYTES);
  await source.read(prefix, 0);
  const length = prefix.readBigUInt64LE(0);
  if (length > LONGEST_HEADER) {
    throw new CheckpointError(
      site, 0, `the header claims ${length} bytes; the limit of the format is ${LONGEST_HEADER}; the file is damaged or hostile`,
    );
  }
  const end = PREFIX_BYTES + Number(length);
  if (end > source.size) {
    const reason = `the header claims ${length} bytes, but ${source.size - PREFIX_BYTES} follow`;
    throw new CheckpointError(site, 0, `${reason}; the file is cut short (copy or download it again)`);
  }
  budget.charge(Number(length), "the header", site, 0);
  const bytes = Buffer.allocUnsafeSlow(Number(length));
  await source.read(bytes, PREFIX_BYTES);
  if (!isUtf8(bytes)) {
    throw new CheckpointError(site, PREFIX_BYTES, "the header is not UTF-8; the file is damaged (copy or download it again)");
  }
  return { bytes, end };
}

/**
 * The tensors in the order of their bytes, those without any in the order of the header.
 *
 * @throws CheckpointError when they overlap, leave a hole, or do not end where the file does
 */
function orderByPosition(tensors: readonly HeaderTensor[], available: number, dataAt: number, file: string): HeaderTensor[] {
  const inOrder = [...tensors].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let position = 0;
  let before: HeaderTensor | null = null;
  for (const tensor of inOrder) {
    const { name, begin, at } = tensor;
    if (begin < position && before !== null) {
      throw new CheckpointError(
        { file, entry: name }, at,
        `its bytes start at ${begin} of the data, inside those of ${printable(before.name)}, which end at ${position}; ` +
        "the file is damaged or hostile",
      );
    }
    if (begin > position) {
      throw new CheckpointError(
        { file, entry: name }, at,
        `its bytes start at ${begin} of the data, which leaves a hole of ${begin - position} that belongs to no tensor; ` +
        "save the tensors again with safetensors",
      );
    }
    position = tensor.end;
    before = tensor;
  }
  if (position > available) {
    throw new CheckpointError(
      { file, entry: before?.name }, dataAt + available,
      `the tensors take ${position} bytes, but the file ends after ${available}; it is cut short (copy or download it again)`,
    );
  }
  if (position < available) {
    throw new CheckpointError(
      { file }, dataAt + position, `${available - position} bytes follow the last tensor; the file is damaged (copy or download it again)`,
    );
  }
  return inOrder;
}
