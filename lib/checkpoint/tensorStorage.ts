import * as torch from "../torch/index.js";
import { Tensor, type DType } from "../torch/index.js";
import type { StorageBytes } from "./byteSource.js";
import { CheckpointError, type CheckpointSite } from "./error.js";
import { StorageReference, TensorReference } from "./references.js";
import { itemSize } from "./storageTypes.js";

/** A storage to be written, with a tensor that lies on it. */
export interface DescribedStorage {
  readonly reference: StorageReference;
  readonly tensor: Tensor;
  readonly elementBytes: number;
}

/** Describes tensors for writing, so that those on one storage share it in the file. */
export class TensorStorages {
  /** Each storage once, in order of first use. */
  readonly storages: DescribedStorage[] = [];
  readonly #byIdentity = new Map<bigint, { reference: StorageReference; dtype: DType }>();

  constructor(private readonly site: CheckpointSite, private readonly keepRequiresGrad: boolean) {}

  /** The reference of a tensor; null for anything else. Throws `CheckpointError` for tensors without plain storage. */
  describe(value: object): TensorReference | null {
    if (!(value instanceof Tensor)) return null;
    if (value.disposed) {
      throw new CheckpointError(
        this.site, null, "a tensor to be written has been disposed of; keep() it until the file is written",
      );
    }
    let storage: { id: bigint; bytes: number; offset: number };
    try {
      storage = torch.storageOf(value);
    } catch (error) {
      const reason = `a tensor has no plain storage: ${(error as Error).message}; convert it to a dense one first`;
      throw new CheckpointError(this.site, null, reason, { cause: error });
    }
    if (torch.isConj(value) || torch.isNeg(value)) {
      throw new CheckpointError(this.site, null, "a tensor has a pending conjugation or negation; write resolveConj().resolveNeg() of it");
    }
    const { dtype } = value;
    const known = this.#byIdentity.get(storage.id);
    if (known !== undefined && known.dtype !== dtype) {
      throw new CheckpointError(
        this.site, null, `two tensors see one storage as ${known.dtype} and as ${dtype}, which PyTorch cannot save; clone() one of them`,
      );
    }
    const reference = known?.reference ?? this.#add(value, storage, dtype);
    const requiresGrad = this.keepRequiresGrad && value.requiresGrad;
    return new TensorReference(reference, dtype, storage.offset, value.shape, value.strides, requiresGrad);
  }

  #add(tensor: Tensor, storage: { id: bigint; bytes: number }, dtype: DType): StorageReference {
    const elementBytes = itemSize(dtype);
    const byteLength = Math.floor(storage.bytes / elementBytes) * elementBytes;
    // Always "cpu": a file that names a GPU does not open on a machine without one.
    const reference = new StorageReference(String(this.storages.length), "cpu", byteLength);
    this.storages.push({ reference, tensor, elementBytes });
    this.#byIdentity.set(storage.id, { reference, dtype });
    return reference;
  }
}

/** Bytes of a storage that are shared as one typed array; Node.js allows at most 4 GiB. */
const PART_BYTES = 2 ** 30;

/** The memory of a contiguous CPU tensor of one dimension, in parts. */
export function sharedParts(tensor: Tensor, elementBytes: number): StorageBytes {
  const elements = tensor.numel();
  const step = PART_BYTES / elementBytes;
  const starts = Array.from({ length: Math.ceil(elements / step) }, (_, i) => i * step);
  return torch.scope(() => starts.map((start) => tensor.narrow(0, start, Math.min(step, elements - start)).sharedBytes()));
}

/** Runs `use` with the bytes of the whole storage that `tensor` lies on as a uint8 tensor, on its own device. */
export function withStorageBytes(tensor: Tensor, elements: number, use: (bytes: Tensor) => void): void {
  if (elements === 0) return;
  torch.scope(() => torch.noGrad(() => {
    const whole = tensor.detach().asStrided([elements], [1], 0);
    use(reinterpret(whole, "uint8"));
  }));
}

/** An uninitialised storage of `byteLength` bytes as a uint8 tensor, and its memory to read into. The caller owns the tensor. */
export function allocateStorage(byteLength: number): { tensor: Tensor; bytes: StorageBytes } {
  const tensor = torch.keep(torch.empty([byteLength], { dtype: "uint8" }));
  return { tensor, bytes: sharedParts(tensor, 1) };
}

/** The tensor that a reference describes, on a storage from `allocateStorage`. */
export function viewOfStorage(storage: Tensor, { dtype, size, stride, offset, requiresGrad }: TensorReference): Tensor {
  const view = torch.scope(() => {
    const elements = Math.floor(storage.numel() / itemSize(dtype));
    const typed = storage.narrow(0, 0, elements * itemSize(dtype));
    return reinterpret(typed, dtype).asStrided([...size], [...stride], offset);
  });
  return torch.keep(requiresGrad ? view.requiresGrad_() : view);
}

/** Looking an operator up takes many times as long as calling it. */
let viewDtype: ReturnType<typeof torch.op> | undefined;

/** The same memory as elements of another dtype. */
function reinterpret(tensor: Tensor, dtype: DType): Tensor {
  if (tensor.dtype === dtype) return tensor;
  viewDtype ??= torch.op("view.dtype");
  return viewDtype(tensor, dtype) as Tensor;
}
