import { lookUpGlobal, StorageClass } from "../pickle/allowedGlobals.js";
import type { ByteSource, StorageBytes } from "../byteSource.js";
import { CheckpointError, printable } from "../error.js";
import { cost, type MemoryBudget } from "../limits.js";
import type { ParsedCheckpoint, ParseOptions } from "../parsedCheckpoint.js";
import { describe, type PickleContext } from "../pickle/pickleObjects.js";
import { readPickle } from "../pickle/pickleReader.js";
import { PythonTuple } from "../pythonValues.js";
import { StorageReference, TypedStorage } from "../references.js";
import { itemSize } from "../storageTypes.js";
import { ZipReader, type ZipEntry } from "./zipReader.js";

/**
 * Parses a checkpoint of PyTorch 1.6 and later: a zip with `<any folder>/data.pkl`, and each storage's bytes under `data/<key>`.
 * Storages are not read yet, but each one's size is compared with its entry's.
 */
export async function parseZipCheckpoint(source: ByteSource, options: ParseOptions, budget: MemoryBudget): Promise<ParsedCheckpoint> {
  const zip = await ZipReader.open(source, options.limits, budget);
  const folder = findFolder(zip, source.name);
  await checkByteOrder(zip, folder, source.name, budget);
  const entry = zip.entry(`${folder}data.pkl`);
  const site = { file: source.name, entry: entry.name };
  if (entry.size > options.limits.pickleBytes) {
    throw new CheckpointError(site, null, `the pickle has ${entry.size} bytes; the limit is ${options.limits.pickleBytes}`);
  }
  const storages = new Map<string, { reference: StorageReference; entry: ZipEntry }>();
  const persistentLoad = (id: unknown, context: PickleContext): TypedStorage => {
    const { type, key, location, elements } = storageId(id, context);
    context.charge(cost.storageMention, "a storage");
    const byteLength = elements * (type.dtype === null ? 1 : itemSize(type.dtype));
    const known = storages.get(key)?.reference;
    if (known !== undefined) {
      if (known.byteLength !== byteLength) {
        context.fail(
          `storage ${printable(key)} has ${known.byteLength} bytes in one place and ${byteLength} in another`,
        );
      }
      return new TypedStorage(known, type.dtype);
    }
    const data = zip.entries.get(`${folder}data/${key}`);
    if (data === undefined) context.fail(`storage ${printable(key)} has no entry ${printable(`${folder}data/${key}`)} in the zip`);
    if (data.size !== byteLength) {
      context.fail(`storage ${printable(key)} is said to have ${byteLength} bytes, but its entry has ${data.size}; the file is damaged`);
    }
    context.charge(cost.storage + byteLength, `storage ${printable(key)} of ${byteLength} bytes`);
    const reference = new StorageReference(key, location, byteLength);
    storages.set(key, { reference, entry: data });
    return new TypedStorage(reference, type.dtype);
  };
  const bytes = await zip.read(entry, budget);
  const { value, end } = readPickle(bytes, 0, {
    ...options, site, budget, lookup: lookUpGlobal, persistentLoad,
  });
  if (end !== bytes.length) throw new CheckpointError(site, end, `${bytes.length - end} bytes follow the end of the pickle`);
  return {
    value,
    format: "zip",
    storages: [...storages.values()].map(({ reference, entry: data }) => ({
      reference,
      load: (target: StorageBytes) => zip.readInto(data, target),
    })),
  };
}

/** Checks a persistent id: ("storage", class, key, location, number of elements[, view]). */
export function storageId(
  id: unknown, context: PickleContext,
): { type: StorageClass; key: string; location: string; elements: number; view: unknown } {
  if (!(id instanceof PythonTuple) || id.length < 5) context.fail(`the persistent id is ${describe(id)}; expected a storage's`);
  const [kind, type, key, location, elements, view] = id;
  if (kind !== "storage") context.fail('a persistent id of another kind than "storage"');
  if (!(type instanceof StorageClass)) context.fail(`a storage of ${describe(type)}; expected torch.FloatStorage or the like`);
  if (typeof key !== "string" && typeof key !== "number") context.fail(`a storage whose key is ${describe(key)}`);
  if (typeof location !== "string") context.fail(`a storage whose location is ${describe(location)}`);
  if (!Number.isSafeInteger(elements) || (elements as number) < 0 || !Number.isSafeInteger((elements as number) * 16)) {
    context.fail(`a storage of ${describe(elements)} elements`);
  }
  return { type, key: String(key), location, elements: elements as number, view: view ?? null };
}

/** The folder, with its slash, that holds `data.pkl`; "" when that lies at the top. */
function findFolder(zip: ZipReader, file: string): string {
  const pickles = [...zip.entries.keys()].filter((name) => /^([^/]+\/)?data\.pkl$/.test(name));
  const folders = pickles.map((name) => name.slice(0, -"data.pkl".length));
  if (folders.length === 1) return folders[0] as string;
  if (folders.length > 1) {
    throw new CheckpointError({ file }, null, `the zip holds ${folders.length} checkpoints (several data.pkl); take it apart first`);
  }
  throw new CheckpointError({ file }, null, "the zip has no data.pkl, so it is not a checkpoint that torch.save wrote");
}

async function checkByteOrder(zip: ZipReader, folder: string, file: string, budget: MemoryBudget): Promise<void> {
  const script = zip.entries.get(`${folder}constants.pkl`);
  if (script !== undefined) {
    throw new CheckpointError(
      { file, entry: script.name }, null,
      "the file is a TorchScript program, not a checkpoint; save the model's state_dict() with torch.save instead",
    );
  }
  const entry = zip.entries.get(`${folder}byteorder`); // absent before PyTorch 2.1
  if (entry === undefined) return;
  const order = entry.size < 16 ? (await zip.read(entry, budget)).toString("latin1") : "";
  if (order !== "little") {
    throw new CheckpointError(
      { file, entry: entry.name }, null,
      order === "big"
        ? "the file was written on a big-endian machine; load it there with PyTorch and save it on a little-endian one"
        : "the byte order is neither little nor big; the file is damaged",
    );
  }
}
