import type { StorageBytes } from "./byteSource.js";
import type { CheckpointLimits } from "./limits.js";
import type { StorageReference } from "./references.js";

export interface ParseOptions {
  readonly limits: CheckpointLimits;
  readonly unknownGlobals: "error" | "placeholder";
  readonly tagFloats: boolean;
}

/** A checkpoint whose pickle or header has been read and whose tensors' bytes have not. */
export interface ParsedCheckpoint {
  /** The unpickler's value, or what stands for it: see `structure.ts`. */
  readonly value: unknown;
  readonly format: "zip" | "legacy" | "safetensors";
  readonly storages: readonly {
    readonly reference: StorageReference;
    /** Fills `target`, which has exactly the storage's length. */
    readonly load: (target: StorageBytes) => Promise<void>;
  }[];
}
