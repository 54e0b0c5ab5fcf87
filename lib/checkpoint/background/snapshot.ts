import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import { withStorageBytes, type TensorStorages } from "../tensorStorage.js";
import type { SnapshotStorage } from "./writeJob.js";

/** Largest piece of shared memory; Node.js has typed arrays of at most 4 GiB. */
const BLOCK_BYTES = 2 ** 30;
/** Storages begin at multiples of this, so that none is split inside an element. */
const ALIGNMENT = 64;

/**
 * Memory that other threads see, for a copy of a checkpoint's storages. It is kept from one copy to the next: fresh memory costs a page
 * fault for every 4 KiB, which takes longer than the copy itself.
 */
export class SnapshotMemory {
  readonly blocks: SharedArrayBuffer[] = [];
  readonly #tensors: Tensor[] = [];

  /** Bytes of all blocks. */
  get byteLength(): number {
    return this.blocks.reduce((total, block) => total + block.byteLength, 0);
  }

  /**
   * Copies the storages, from whatever device. What was copied before is lost.
   *
   * @throws RangeError when there is not enough memory
   */
  copy(tensors: TensorStorages): SnapshotStorage[] {
    this.reserve(tensors);
    let block = 0;
    let offset = 0;
    return tensors.storages.map(({ reference: { key, byteLength }, tensor, elementBytes }) => {
      const pieces: SnapshotStorage["pieces"] = [];
      for (let left = byteLength; left > 0;) {
        const room = this.blocks[block]!.byteLength - offset;
        if (room === 0) {
          block++;
          offset = 0;
          continue;
        }
        const length = Math.min(left, room);
        pieces.push({ block, offset, length });
        left -= length;
        offset += aligned(length);
      }
      withStorageBytes(tensor, byteLength / elementBytes, (whole) => {
        let done = 0;
        for (const piece of pieces) {
          this.#tensors[piece.block]!.narrow(0, piece.offset, piece.length).copy_(whole.narrow(0, done, piece.length));
          done += piece.length;
        }
      });
      return { key, pieces };
    });
  }

  /** Makes sure that there is memory for the storages, and gives the blocks that are new. What was copied before stays. */
  reserve(tensors: TensorStorages): SharedArrayBuffer[] {
    const before = this.blocks.length;
    const needed = tensors.storages.reduce((total, { reference }) => total + aligned(reference.byteLength), 0);
    for (let missing = needed - this.byteLength; missing > 0; missing -= BLOCK_BYTES) {
      const block = new SharedArrayBuffer(Math.min(missing, BLOCK_BYTES));
      this.#tensors.push(torch.keep(torch.fromTypedArray(new Uint8Array(block))));
      this.blocks.push(block);
    }
    return this.blocks.slice(before);
  }

  dispose(): void {
    for (const tensor of this.#tensors.splice(0)) tensor.dispose();
    this.blocks.length = 0;
  }
}

function aligned(length: number): number {
  return Math.ceil(length / ALIGNMENT) * ALIGNMENT;
}
