import { writeDurably, type FileLayer } from "../../lib/checkpoint/files/durableFile.js";
import type { Position } from "../../lib/train/runs/checkpointFiles.js";
import { CheckpointFolder } from "../../lib/train/runs/checkpointFolder.js";
import type { Retention } from "../../lib/train/runs/checkpointRetention.js";

/** Something that saves checkpoints; the campaign says whether it does so safely. */
export type Writer = (folder: string, retention: Retention, files: FileLayer) => Promise<{
  /** @param number of the checkpoint whose file is `bytes` */
  save(position: Position, bytes: Uint8Array, number: number): Promise<unknown>;
  close?(): Promise<void>;
}>;

/** Pieces in which a file is written: beginnings, ends and middles can be lost apart. */
const PIECES = 4;

/** Gives the bytes piece by piece. */
export async function writePieces(bytes: Uint8Array, write: (piece: Uint8Array) => Promise<void>): Promise<void> {
  const size = Math.ceil(bytes.byteLength / PIECES);
  for (let at = 0; at < bytes.byteLength; at += size) await write(bytes.subarray(at, at + size));
}

/** The package's own way. */
export const ours: Writer = async (path, retention, files) => {
  const folder = await CheckpointFolder.open(path, { ...retention, files });
  return {
    save: (position, bytes) =>
      folder.save(position, (target) => writeDurably(target, (sink) => writePieces(bytes, (piece) => sink.write(piece)), files)),
  };
};
