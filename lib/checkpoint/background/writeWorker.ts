/** The thread that writes checkpoints for `BackgroundWriter`. It loads neither libtorch nor the addon. */
import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import { writeArchive, type ArchivedStorage } from "../zip/archive.js";
import { piecesOf } from "../byteSource.js";
import { diskFiles, errorCode, writeDurably, type FileLayer } from "../files/durableFile.js";
import { writeFailure } from "../writeFailure.js";
import type { TouchJob, WriteJob, WriteReply } from "./writeJob.js";

/** Bytes written at a time, so that the next ones' CRC is computed from the processor's cache. */
const WRITE_CHUNK = 8 * 2 ** 20;
/** The smallest page of any system. */
const PAGE_BYTES = 4096;

/**
 * Files that this thread itself writes and waits for: libuv's few threads, which all threads of the process share, are left to those who
 * decode images.
 */
const ownFiles: FileLayer = {
  ...diskFiles,
  async create(path) {
    const file = openSync(path, "wx");
    return {
      write: async (bytes) => writeSync(file, bytes),
      sync: async () => fsyncSync(file),
      close: async () => closeSync(file),
    };
  },
};

async function write({ path, pickle, storages, blocks }: WriteJob): Promise<WriteReply> {
  const archived = storages.map(({ key, pieces }): ArchivedStorage => ({
    key,
    byteLength: pieces.reduce((total, { length }) => total + length, 0),
    pieces: () => piecesOf(pieces.map(({ block, offset, length }) => new Uint8Array(blocks[block]!, offset, length)), WRITE_CHUNK),
  }));
  try {
    await writeDurably(path, (sink) => writeArchive(sink, pickle, archived), ownFiles);
    return { failure: null };
  } catch (error) {
    return { failure: { reason: writeFailure(path, error).reason, code: errorCode(error) } };
  }
}

/** Takes the pages of fresh memory from the system. Changes no byte, even of one that another thread is writing. */
function touch(blocks: readonly SharedArrayBuffer[]): void {
  for (const block of blocks) {
    const bytes = new Uint8Array(block);
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) Atomics.or(bytes, at, 0);
  }
}

const port = parentPort!;
port.on("message", (job: WriteJob | TouchJob) => {
  if ("touch" in job) touch(job.touch);
  else void write(job).then((reply) => port.postMessage(reply));
});
