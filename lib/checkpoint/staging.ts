import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import type { ArchivedStorage } from "./zip/archive.js";
import { withStorageBytes, type DescribedStorage } from "./tensorStorage.js";

/** Small enough for the processor's cache, out of which the CRC is computed and the file written. */
const PIECE_BYTES = 4 * 2 ** 20;

/**
 * A little memory through which tensors go to a file, from whatever device. To hand out their own memory would save this copy, but
 * costs more: each array buffer makes V8 collect garbage for memory that is not its own.
 */
export class Staging {
  readonly #buffers: { bytes: Uint8Array; tensor: Tensor }[];
  #next = 0;

  /** @param storages all that will go through it */
  constructor(storages: readonly DescribedStorage[]) {
    const largest = storages.reduce((most, { reference }) => Math.max(most, reference.byteLength), 1);
    // Two, since one piece is written while the next is copied.
    this.#buffers = [0, 1].map(() => {
      const bytes = new Uint8Array(Math.min(PIECE_BYTES, largest));
      return { bytes, tensor: torch.keep(torch.fromTypedArray(bytes)) };
    });
  }

  /** A storage as `writeArchive` takes it. */
  archived(storage: DescribedStorage): ArchivedStorage {
    const { key, byteLength } = storage.reference;
    return { key, byteLength, pieces: () => this.#pieces(storage) };
  }

  *#pieces({ reference: { byteLength }, tensor, elementBytes }: DescribedStorage): Generator<Uint8Array> {
    for (let at = 0; at < byteLength; at += PIECE_BYTES) {
      const length = Math.min(PIECE_BYTES, byteLength - at);
      const buffer = this.#buffers[this.#next++ % this.#buffers.length]!;
      withStorageBytes(tensor, byteLength / elementBytes, (whole) => buffer.tensor.narrow(0, 0, length).copy_(whole.narrow(0, at, length)));
      yield buffer.bytes.subarray(0, length);
    }
  }

  [Symbol.dispose](): void {
    for (const { tensor } of this.#buffers) tensor.dispose();
  }
}
