import { lookUpGlobal } from "./pickle/allowedGlobals.js";
import { readParts, type ByteSource, type StorageBytes } from "./byteSource.js";
import { CheckpointError, printable } from "./error.js";
import { cost, MemoryBudget } from "./limits.js";
import type { ParsedCheckpoint, ParseOptions } from "./parsedCheckpoint.js";
import { describe, PickleDict, TruncatedPickle, type PickleContext } from "./pickle/pickleObjects.js";
import { readPickle } from "./pickle/pickleReader.js";
import { StorageReference, TypedStorage } from "./references.js";
import { itemSize } from "./storageTypes.js";
import { storageId } from "./zip/zipCheckpoint.js";

/** The number that the first pickle of a legacy file holds. */
const MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL_VERSION = 1001;

/** What is read at first for the pickles; enlarged until they end inside it. */
const FIRST_WINDOW = 2 ** 20;

interface LegacyStorage {
  readonly reference: StorageReference;
  readonly elements: number;
}

/**
 * Parses a checkpoint from before PyTorch 1.6: five pickles (magic number, protocol version, system, the value, the storages' keys),
 * then for each key the number of elements (int64) and the raw elements.
 */
export async function parseLegacyCheckpoint(source: ByteSource, options: ParseOptions, budget: MemoryBudget): Promise<ParsedCheckpoint> {
  for (let window = FIRST_WINDOW; ; window *= 4) {
    const length = Math.min(window, source.size, options.limits.pickleBytes);
    // Only the last attempt's memory stays: each one counts for itself.
    const attempt = new MemoryBudget(source.size);
    attempt.charge(budget.used + length, "the pickles", { file: source.name });
    const head = Buffer.allocUnsafeSlow(length);
    await source.read(head, 0);
    try {
      const parsed = parsePickles(head, source, options, attempt);
      const storages = await locate(parsed, source);
      budget.charge(attempt.used - budget.used, "the pickles", { file: source.name });
      return { value: parsed.value, format: "legacy", storages };
    } catch (error) {
      if (!(error instanceof TruncatedPickle) || length < window) throw error;
    }
  }
}

interface Pickles {
  readonly value: unknown;
  readonly keys: readonly unknown[];
  readonly storages: ReadonlyMap<string, LegacyStorage>;
  readonly end: number;
}

function parsePickles(head: Buffer, source: ByteSource, options: ParseOptions, budget: MemoryBudget): Pickles {
  const storages = new Map<string, LegacyStorage>();
  let position = 0;
  const next = (entry: string, persistentLoad: (id: unknown, context: PickleContext) => unknown): unknown => {
    const { value, end } = readPickle(head, position, {
      ...options, site: { file: source.name, entry }, budget, lookup: lookUpGlobal, persistentLoad,
    });
    position = end;
    return value;
  };
  const noStorages = (_id: unknown, context: PickleContext): never => context.fail("a storage outside the value");
  const fault = (entry: string, reason: string): CheckpointError => new CheckpointError({ file: source.name, entry }, position, reason);

  if (next("magic number", noStorages) !== MAGIC) {
    throw fault("magic number", "this is a pickle, but not a PyTorch checkpoint; only files that torch.save wrote can be read");
  }
  const version = next("protocol version", noStorages);
  if (version !== PROTOCOL_VERSION) throw fault("protocol version", `it is ${describe(version)}; expected ${PROTOCOL_VERSION}`);
  const system = next("system", noStorages);
  if (!(system instanceof PickleDict)) throw fault("system", `it is ${describe(system)}; expected a dict`);
  if (system.entries.get("little_endian") === false) {
    throw fault("system", "the file was written on a big-endian machine; load it there with PyTorch and save it on a little-endian one");
  }
  const value = next("value", (id, context) => loadStorage(id, context, storages));
  const keys = next("storage keys", noStorages);
  if (!Array.isArray(keys)) throw fault("storage keys", `they are ${describe(keys)}; expected a list`);
  return { value, keys, storages, end: position };
}

function loadStorage(id: unknown, context: PickleContext, storages: Map<string, LegacyStorage>): TypedStorage {
  const { type, key, location, elements, view } = storageId(id, context);
  context.charge(cost.storageMention, "a storage");
  if (type.dtype === null) context.fail("an untyped storage in a legacy file");
  const size = itemSize(type.dtype);
  let known = storages.get(key);
  if (known === undefined) {
    const byteLength = elements * size;
    context.charge(cost.storage + byteLength, `storage ${printable(key)} of ${byteLength} bytes`);
    known = { reference: new StorageReference(key, location, byteLength), elements };
    storages.set(key, known);
  } else if (known.reference.byteLength !== elements * size) {
    context.fail(`storage ${printable(key)} has ${known.reference.byteLength} bytes in one place and ${elements * size} in another`);
  }
  if (view === null) return new TypedStorage(known.reference, type.dtype);
  // A storage that is a part of another one (PyTorch before 0.4): (its key, first element, number of elements).
  const [, first, count] = Array.isArray(view) ? (view as unknown[]) : [];
  if (!isIndex(first) || !isIndex(count) || first + count > elements) {
    context.fail(`storage ${printable(key)} is viewed as ${describe(view)}, which does not lie inside its ${elements} elements`);
  }
  return new TypedStorage(known.reference, type.dtype, first * size);
}

function isIndex(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Positions of the storages' elements behind the pickles. */
async function locate({ keys, storages, end }: Pickles, source: ByteSource): Promise<ParsedCheckpoint["storages"]> {
  const site = { file: source.name, entry: "storage keys" };
  if (keys.length !== storages.size) {
    throw new CheckpointError(site, end, `${keys.length} storages follow, but the value refers to ${storages.size}; the file is damaged`);
  }
  const located: { reference: StorageReference; load: (target: StorageBytes) => Promise<void> }[] = [];
  const seen = new Set<string>();
  let position = end;
  for (const rawKey of keys) {
    if (typeof rawKey !== "string" && typeof rawKey !== "number") {
      throw new CheckpointError(site, end, `a storage's key is ${describe(rawKey)}; expected a string`);
    }
    const key = String(rawKey);
    const storage = storages.get(key);
    if (storage === undefined || seen.has(key)) {
      throw new CheckpointError(site, end, `storage ${printable(key)} follows, but the value does not refer to it, or it comes twice`);
    }
    seen.add(key);
    const here = { file: source.name, entry: `storage ${printable(key)}` };
    const header = Buffer.alloc(8);
    await source.read(header, position);
    const elements = header.readBigInt64LE(0);
    if (elements !== BigInt(storage.elements)) {
      throw new CheckpointError(here, position, `it has ${elements} elements, the value says ${storage.elements}; the file is damaged`);
    }
    const at = position + 8;
    position = at + storage.reference.byteLength;
    if (position > source.size) {
      throw new CheckpointError(
        here, at, `its ${storage.reference.byteLength} bytes reach beyond the end of the file (${source.size}); it is cut short`,
      );
    }
    located.push({ reference: storage.reference, load: (target) => readParts(source, at, target) });
  }
  if (position !== source.size) {
    throw new CheckpointError(
      { file: source.name }, position, `${source.size - position} bytes follow the last storage; the file is damaged`,
    );
  }
  return located;
}
