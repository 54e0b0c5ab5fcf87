import { crc32 } from "node:zlib";
import type { ByteSink } from "../files/durableFile.js";
import { ALIGNMENT, ZipWriter } from "./zipWriter.js";

// A worker thread imports this file: neither it nor what it imports may load libtorch.

/** A tensor storage to be written. */
export interface ArchivedStorage {
  /** Name of the storage in the pickle. */
  readonly key: string;
  readonly byteLength: number;
  /** The storage's bytes in pieces. A piece stays as it is until the next but one is asked for. */
  pieces(): Iterable<Uint8Array>;
}

/** Folder inside the zip; PyTorch accepts any. */
const FOLDER = "archive";

/** Writes the zip that `torch.save` writes: the pickled value, each storage's bytes, and a few small entries about both. */
export async function writeArchive(sink: ByteSink, pickle: Uint8Array, storages: Iterable<ArchivedStorage>): Promise<void> {
  const zip = new ZipWriter(sink);
  const text = (name: string, content: string): Promise<void> => zip.add(`${FOLDER}/${name}`, [Buffer.from(content, "latin1")]);
  await zip.add(`${FOLDER}/data.pkl`, [pickle]);
  await text(".format_version", "1");
  await text(".storage_alignment", String(ALIGNMENT));
  await text("byteorder", "little");
  for (const storage of storages) await zip.addPieces(`${FOLDER}/data/${storage.key}`, storage.byteLength, storage.pieces());
  await text("version", "3\n");
  await text(".data/serialization_id", serializationId(zip.checksums));
  await zip.finish();
}

/** Forty digits that identify the content: equal values give equal files. */
function serializationId(checksums: readonly number[]): string {
  const total = crc32(new Uint8Array(Uint32Array.from(checksums).buffer));
  return `${String(checksums.length).padStart(20, "0")}${String(total).padStart(20, "0")}`;
}
