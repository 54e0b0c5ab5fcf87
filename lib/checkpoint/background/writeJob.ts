/** A storage in a snapshot: the pieces of shared memory that hold it, in order. */
export interface SnapshotStorage {
  key: string;
  pieces: { block: number; offset: number; length: number }[];
}

/** Shared memory for the writing thread to touch, so that later no copy has to wait for its pages. It does not answer. */
export interface TouchJob {
  touch: SharedArrayBuffer[];
}

/** A checkpoint for the writing thread. */
export interface WriteJob {
  path: string;
  pickle: Uint8Array;
  storages: SnapshotStorage[];
  blocks: SharedArrayBuffer[];
}

/** Its answer: null when the file is written, else why it is not. */
export interface WriteReply {
  failure: { reason: string; code: string | undefined } | null;
}
