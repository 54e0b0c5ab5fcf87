import { writeArchive } from "./zip/archive.js";
import { CheckpointError, type CheckpointSite } from "./error.js";
import { diskFiles, writeDurably, type ByteSink, type FileLayer } from "./files/durableFile.js";
import { writePickle } from "./pickle/pickleWriter.js";
import { prepareSafetensors } from "./safetensors/writeSafetensors.js";
import { Staging } from "./staging.js";
import { TensorStorages } from "./tensorStorage.js";
import { writeFailure } from "./writeFailure.js";

/** How {@link writeCheckpoint} writes. */
export interface WriteOptions {
  /** File format: "zip" is that of PyTorch 1.6 and later; "safetensors" holds a state dict, tensors by name and nothing else. */
  readonly format?: "zip" | "safetensors";
  /** Text that a safetensors file keeps beside the tensors; `{ format: "pt" }` is added, as transformers expects it. */
  readonly metadata?: Readonly<Record<string, string>>;
  /**
   * Write each tensor's `requiresGrad`. Off by default: `stateDict()` holds the live parameters, while PyTorch's state dicts are detached,
   * and Python code that loads one may refuse tensors that require a gradient (`tensor.numpy()` does).
   */
  readonly keepRequiresGrad?: boolean;
  /** File operations, for tests that inject faults. */
  readonly files?: FileLayer;
}

/**
 * Writes a checkpoint that PyTorch opens with `torch.load(path, weights_only=True)`, also with `mmap=True`.
 *
 * Plain objects and Maps become dicts (a Map keeps keys that are integers, as an optimiser's state needs), `OrderedDict` an OrderedDict,
 * arrays lists, integral numbers ints; `PythonFloat` and `PythonTuple` mark what must be a float or a tuple: see `writePickle`.
 * Tensors on any device, of any dense dtype, are written with their strides; those that share a storage share it in the file,
 * which holds each storage once and whole.
 *
 * With the format "safetensors" the value is a Map or plain object of tensors. That format knows no strides, shared memory,
 * `requiresGrad` or attributes such as `_metadata`: each tensor is written whole and contiguous, and these are left out.
 *
 * The file appears at once and complete, or not at all: see `writeDurably`. Tensors are streamed from their own memory, so they must
 * not change or be disposed of until the promise settles.
 *
 * @throws CheckpointError for a value that has no counterpart in Python, with the path to it; system errors (a full disk) wrapped
 * in one. The old file is untouched then.
 * @example await writeCheckpoint("checkpoint.pth.tar", { epoch: 1, arch: "vit_small", state_dict: new OrderedDict(model.stateDict()) });
 */
export async function writeCheckpoint(path: string, value: unknown, options: WriteOptions = {}): Promise<void> {
  const { files = diskFiles } = options;
  const site = { file: path };
  const fill = prepare(value, site, options);
  try {
    await writeDurably(path, fill, files);
  } catch (error) {
    throw writeFailure(path, error);
  }
}

/** Checks all of the value before a file is opened; the returned function writes it. */
function prepare(value: unknown, site: CheckpointSite, options: WriteOptions): (sink: ByteSink) => Promise<void> {
  const { format = "zip", keepRequiresGrad = false, metadata } = options;
  if (format === "safetensors") return prepareSafetensors(value, site, metadata);
  if (format !== "zip") throw new CheckpointError(site, null, `the format ${String(format)} is unknown; use "zip" or "safetensors"`);
  if (metadata !== undefined) {
    throw new CheckpointError(site, null, 'metadata are for format "safetensors"; in a zip, put them into the value that is written');
  }
  const tensors = new TensorStorages(site, keepRequiresGrad);
  const pickle = writePickle(value, site, (candidate) => tensors.describe(candidate));
  return async (sink) => {
    using staging = new Staging(tensors.storages);
    await writeArchive(sink, pickle, tensors.storages.map((storage) => staging.archived(storage)));
  };
}
