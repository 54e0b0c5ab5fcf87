import { crc32 } from "node:zlib";
import { CheckpointError } from "./error.js";
import { diskFiles, writeDurably, type ByteSink, type FileLayer } from "./durableFile.js";
import { writePickle } from "./pickleWriter.js";
import { TensorStorages, withStorageBytes } from "./tensorStorage.js";
import { ALIGNMENT, ZipWriter } from "./zipWriter.js";

export interface WriteOptions {
  /** File format; "zip" is that of PyTorch 1.6 and later. */
  readonly format?: "zip";
  /**
   * Write each tensor's `requiresGrad`. Off by default: `stateDict()` holds the live parameters, while PyTorch's state dicts are detached,
   * and Python code that loads one may refuse tensors that require a gradient (`tensor.numpy()` does).
   */
  readonly keepRequiresGrad?: boolean;
  /** File operations, for tests that inject faults. */
  readonly files?: FileLayer;
}

/** Folder inside the zip; PyTorch accepts any. */
const FOLDER = "archive";

/**
 * Writes a checkpoint that PyTorch opens with `torch.load(path, weights_only=True)`, also with `mmap=True`.
 *
 * Plain objects and Maps become dicts (a Map keeps keys that are integers, as an optimiser's state needs), `OrderedDict` an OrderedDict,
 * arrays lists, integral numbers ints; `PythonFloat` and `PythonTuple` mark what must be a float or a tuple: see `writePickle`.
 * Tensors on any device, of any dense dtype, are written with their strides; those that share a storage share it in the file,
 * which holds each storage once and whole.
 *
 * The file appears at once and complete, or not at all: see `writeDurably`. Tensors are streamed from their own memory, so they must
 * not change or be disposed of until the promise settles.
 *
 * @throws CheckpointError for a value that has no counterpart in Python, with the path to it; system errors (a full disk) wrapped
 * in one. The old file is untouched then.
 * @example await writeCheckpoint("checkpoint.pth.tar", { epoch: 1, arch: "vit_small", state_dict: new OrderedDict(model.stateDict()) });
 */
export async function writeCheckpoint(path: string, value: unknown, options: WriteOptions = {}): Promise<void> {
  const { keepRequiresGrad = false, files = diskFiles } = options;
  const site = { file: path };
  const tensors = new TensorStorages(site, keepRequiresGrad);
  const pickle = writePickle(value, site, (candidate) => tensors.describe(candidate));
  try {
    await writeDurably(path, (sink) => writeZip(sink, pickle, tensors), files);
  } catch (error) {
    if (error instanceof CheckpointError) throw error;
    throw new CheckpointError(site, null, `it cannot be written: ${(error as Error).message}. ${remedy(error)}`, { cause: error });
  }
}

async function writeZip(sink: ByteSink, pickle: Buffer, tensors: TensorStorages): Promise<void> {
  const zip = new ZipWriter(sink);
  const text = (name: string, content: string): Promise<void> => zip.add(`${FOLDER}/${name}`, [Buffer.from(content, "latin1")]);
  await zip.add(`${FOLDER}/data.pkl`, [pickle]);
  await text(".format_version", "1");
  await text(".storage_alignment", String(ALIGNMENT));
  await text("byteorder", "little");
  for (const { reference, tensor, elementBytes } of tensors.storages) {
    const elements = reference.byteLength / elementBytes;
    await withStorageBytes(tensor, elements, elementBytes, (bytes) => zip.add(`${FOLDER}/data/${reference.key}`, bytes));
  }
  await text("version", "3\n");
  await text(".data/serialization_id", serializationId(zip.checksums));
  await zip.finish();
}

/** Forty digits that identify the content: equal values give equal files. */
function serializationId(checksums: readonly number[]): string {
  const total = crc32(new Uint8Array(Uint32Array.from(checksums).buffer));
  return `${String(checksums.length).padStart(20, "0")}${String(total).padStart(20, "0")}`;
}

function remedy(error: unknown): string {
  switch ((error as NodeJS.ErrnoException).code) {
    case "ENOSPC": case "EDQUOT": return "Free some space, or write to another disk; what was there before is untouched";
    case "ENOENT": case "ENOTDIR": return "Create the folder first";
    case "EACCES": case "EPERM": case "EROFS": return "Choose a folder that you may write to";
    default: return "What was there before is untouched";
  }
}
