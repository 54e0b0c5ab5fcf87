import { CheckpointError, type CheckpointSite } from "./error.js";

/**
 * What a checkpoint may ask for. The defaults are far above any real training checkpoint (a ViT-B with AdamW state has a pickle of
 * 0.3 MB, 60 thousand opcodes, nesting 6) and far below what hurts.
 */
export interface CheckpointLimits {
  /** Bytes of one pickle. */
  readonly pickleBytes: number;
  /** Opcodes executed in one pickle. */
  readonly opcodes: number;
  /** Values on the unpickler's stack. */
  readonly stack: number;
  /** Marks on that stack: one for each container that is being filled. */
  readonly marks: number;
  /** Entries of the unpickler's memo. */
  readonly memo: number;
  /**
   * Keys of dicts and items of sets that are numbers, whole ones below a million left out. JavaScript's engine hashes numbers without a secret, so
   * that a file can choose many that meet in one place of a Map, where each takes a walk past all others.
   */
  readonly sparseNumbers: number;
  /** Containers inside containers. */
  readonly depth: number;
  /** Leaves of the whole value, counting a container that is referred to twice as two. */
  readonly leaves: number;
  /** Bytes of one string, byte string or global's name. */
  readonly stringBytes: number;
  /** Bytes of one integer. */
  readonly integerBytes: number;
  /** Dimensions of one tensor. */
  readonly dimensions: number;
  /** Bytes that a tensor which repeats its storage (`expand`) would take if it were written out. */
  readonly expandedBytes: number;
  /** Entries of a zip file. */
  readonly zipEntries: number;
}

/** What reading takes at most where nothing else is asked for. */
export const defaultLimits: CheckpointLimits = {
  pickleBytes: 256 * 2 ** 20,
  opcodes: 20_000_000,
  stack: 250_000,
  marks: 1000,
  memo: 4_000_000,
  sparseNumbers: 20_000,
  depth: 200,
  leaves: 10_000_000,
  stringBytes: 16 * 2 ** 20,
  integerBytes: 1024,
  dimensions: 64,
  expandedBytes: 256 * 2 ** 20,
  zipEntries: 1_000_000,
};

/** Memory that reading may take beyond twice the file's size. Less than the promised 64 MiB, for what is not counted. */
const ALLOWANCE = 40 * 2 ** 20;

/**
 * Rough costs in bytes of what reading creates, counted before it is created. A container is counted for both of its lives: as the
 * unpickler's object and as the value handed out.
 */
export const cost = {
  list: 384,
  tuple: 128,
  dict: 640,
  object: 256,
  element: 32,
  dictEntry: 160,
  text: 48,
  number: 24,
  memo: 32,
  bytes: 448,
  tensor: 2048,
  dimension: 64,
  storage: 1024,
  storageMention: 128,
  zipEntry: 512,
} as const;

/**
 * Counts the memory that reading one file takes and refuses before it passes twice the file's size plus a fixed allowance,
 * whatever sizes the file claims.
 */
export class MemoryBudget {
  readonly total: number;
  #used = 0;

  /** @param fileBytes - size of the checkpoint on disk */
  constructor(fileBytes: number) {
    this.total = 2 * fileBytes + ALLOWANCE;
  }

  get used(): number {
    return this.#used;
  }

  /** Counts `bytes`; throws `CheckpointError` at `site` when that is more than is left. */
  charge(bytes: number, what: string, site: CheckpointSite, offset: number | null = null): void {
    if (!(this.#used + bytes <= this.total)) {
      throw new CheckpointError(
        site, offset,
        `${what} would take the memory used for this file beyond ${this.total} bytes (twice its size and 40 MiB), ` +
        "which no real checkpoint needs; it is damaged or hostile",
      );
    }
    this.#used += bytes;
  }
}
