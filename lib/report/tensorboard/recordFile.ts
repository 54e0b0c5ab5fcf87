import { closeSync, openSync, writeSync } from "node:fs";
import { maskedCrc32c } from "./crc32c.js";

/** One record of a TFRecord file: length in 8 bytes, its checksum, the data, its checksum; all little-endian. */
export function frameRecord(data: Uint8Array): Uint8Array {
  const record = new Uint8Array(data.length + 16);
  const view = new DataView(record.buffer);
  view.setUint32(0, data.length, true); // a record above 4 GiB there is none
  view.setUint32(8, maskedCrc32c(record.subarray(0, 8)), true);
  record.set(data, 12);
  view.setUint32(12 + data.length, maskedCrc32c(data), true);
  return record;
}

/**
 * Writes a new TFRecord file. Each record is on its way to the disk before `write` returns; one that a crash cuts off is passed over by
 * readers, as the run that goes on begins a file of its own.
 */
export class RecordFile {
  readonly #file: number;

  /** @throws the system's error for a file that is there already */
  constructor(readonly path: string) {
    this.#file = openSync(path, "wx");
  }

  write(data: Uint8Array): void {
    const record = frameRecord(data);
    for (let done = 0; done < record.length;) done += writeSync(this.#file, record, done);
  }

  close(): void {
    closeSync(this.#file);
  }
}
