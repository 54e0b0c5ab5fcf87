import { crc32 } from "node:zlib";
import { native } from "../../native.js";
import { endOfFile, piecesOf, type ByteSource, type StorageBytes } from "../byteSource.js";

/** Bytes read at a time where JavaScript computes the checksum: enough that starting a read costs nothing. */
const READ_CHUNK = 8 * 2 ** 20;

/**
 * Fills `target` from `start`, and gives the CRC-32 of what was read. From a file, both happen on another thread, so that several
 * storages are read on several cores; elsewhere the CRC of one piece is computed while the next one is read.
 */
export async function readChecked(source: ByteSource, target: StorageBytes, start: number): Promise<number> {
  const { readChecked: readNatively } = native;
  const { descriptor } = source;
  let crc = 0;
  let position = start;
  if (readNatively !== undefined && descriptor !== undefined) {
    for (const part of target) {
      const [bytesRead, after] = await readNatively(descriptor, part, position, crc);
      position += bytesRead;
      if (bytesRead < part.byteLength) throw endOfFile({ file: source.name }, position, part.byteLength - bytesRead);
      crc = after;
    }
    return crc;
  }
  let pending: Uint8Array = new Uint8Array(0);
  for (const piece of piecesOf(target, READ_CHUNK)) {
    const reading = source.read(piece, position);
    crc = crc32(pending, crc);
    await reading;
    pending = piece;
    position += piece.byteLength;
  }
  return crc32(pending, crc);
}
