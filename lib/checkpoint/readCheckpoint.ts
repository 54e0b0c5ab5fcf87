import { availableParallelism } from "node:os";
import type { Tensor } from "../torch/index.js";
import { FileSource, type ByteSource } from "./byteSource.js";
import { CheckpointError } from "./error.js";
import { defaultLimits, type CheckpointLimits } from "./limits.js";
import { parseCheckpoint } from "./parse.js";
import type { ParsedCheckpoint } from "./parsedCheckpoint.js";
import type { StorageReference, TensorReference } from "./references.js";
import { toJavaScript } from "./structure.js";
import { allocateStorage, viewOfStorage } from "./tensorStorage.js";

/** How {@link readCheckpoint} reads. */
export interface ReadOptions {
  /** Device of the tensors, whatever device the file names; "cpu" unless given. */
  readonly device?: string;
  /**
   * What a class or function that checkpoints do not need does: "error" refuses the file, "placeholder" gives an inert `PythonObject`
   * or `PythonGlobal` in its place. Nothing is ever run.
   */
  readonly unknownGlobals?: "error" | "placeholder";
  /** Give floats with integral values as `PythonFloat`, so that writing the value again makes them floats again. */
  readonly tagFloats?: boolean;
  /** Limits to change; see `CheckpointLimits`. */
  readonly limits?: Partial<CheckpointLimits>;
}

/** What MoCo v3's checkpoints hold; other files may hold anything. See `readCheckpoint` for how Python's types come out. */
export interface Checkpoint {
  epoch?: number;
  arch?: string;
  state_dict?: Map<string, Tensor>;
  optimizer?: { state: Map<number, Record<string, Tensor | number>>; param_groups: Record<string, unknown>[] };
  scaler?: Record<string, unknown>;
  best_acc1?: Tensor | number;
  [key: string]: unknown;
}

/** Storages read at the same time: one more than there are cores, so that none waits while a read ends; many would contend. */
const PARALLEL = Math.max(2, Math.min(4, availableParallelism() + 1));

/**
 * Reads a checkpoint that `torch.save` wrote: zip files of PyTorch 1.6 and later, and the format before; or a safetensors file. The
 * content decides which it is, not the name. Never runs anything that the file asks for; a damaged or hostile file gives a
 * `CheckpointError` and takes at most twice its size plus 64 MB of memory.
 *
 * An OrderedDict comes as `OrderedDict` (a Map), a dict with string keys as an object without prototype, any other dict as a Map,
 * a tuple as `PythonTuple` (an array), the rest as plain values: see `toJavaScript`. Tensors share storage where they did when saved;
 * `requires_grad` is kept. The caller owns the tensors: they live until disposed of.
 *
 * A safetensors file comes as an `OrderedDict` of tensors in the order of the file, whose `attributes` are `{ metadata }`, an object of
 * strings.
 *
 * @throws CheckpointError with file, entry, offset and reason
 * @example
 * const { state_dict, epoch } = await readCheckpoint("checkpoint_0099.pth.tar");
 */
export async function readCheckpoint<T = Checkpoint>(path: string, options: ReadOptions = {}): Promise<T> {
  const source = await FileSource.open(path);
  try {
    return await readCheckpointFrom<T>(source, options);
  } finally {
    await source.close();
  }
}

/** Reads a checkpoint from `source`, which the caller closes; as `readCheckpoint` in all else. Errors name the file `source.name`. */
export async function readCheckpointFrom<T = Checkpoint>(source: ByteSource, options: ReadOptions = {}): Promise<T> {
  const parsed = await parseCheckpoint(source, {
    limits: { ...defaultLimits, ...options.limits },
    unknownGlobals: options.unknownGlobals ?? "error",
    tagFloats: options.tagFloats ?? false,
  });
  return (await materialise(parsed, source.name, options.device ?? "cpu")) as T;
}

/** Reads the storages and puts tensors into the value. */
async function materialise(parsed: ParsedCheckpoint, path: string, device: string): Promise<unknown> {
  const storages = new Map<StorageReference, Tensor>();
  const views: Tensor[] = [];
  try {
    const queue = [...parsed.storages].reverse();
    const worker = async (): Promise<void> => {
      for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
        const { tensor, bytes } = allocateStorage(next.reference.byteLength);
        storages.set(next.reference, tensor);
        await next.load(bytes);
        if (device === "cpu") continue;
        storages.set(next.reference, tensor.to(device));
        tensor.dispose();
      }
    };
    // allSettled: when one fails, the others must be done with their memory before it is freed.
    const results = await Promise.allSettled(Array.from({ length: PARALLEL }, worker));
    const failed = results.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    return toJavaScript(parsed.value, (reference) => {
      const view = viewOfStorage(storageOf(reference, storages, device), reference);
      views.push(view);
      return view;
    });
  } catch (error) {
    for (const view of views) view.dispose();
    if (error instanceof CheckpointError) throw error;
    throw new CheckpointError({ file: path }, null, `its tensors cannot be built: ${(error as Error).message}`, { cause: error });
  } finally {
    // The views keep the memory; these were only handles.
    for (const tensor of storages.values()) tensor.dispose();
  }
}

function storageOf(reference: TensorReference, storages: Map<StorageReference, Tensor>, device: string): Tensor {
  const { storage } = reference;
  const known = storages.get(storage);
  if (known !== undefined) return known;
  const { tensor, bytes } = allocateStorage(storage.byteLength);
  storages.set(storage, tensor);
  if (storage.inline !== null) bytes[0]?.set(storage.inline); // at most the limit of a byte string
  if (device === "cpu") return tensor;
  const moved = tensor.to(device);
  tensor.dispose();
  storages.set(storage, moved);
  return moved;
}
