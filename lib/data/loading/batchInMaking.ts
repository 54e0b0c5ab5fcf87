import type { ViewDraw } from "../augmentation/augmentation.js";
import type { Sample } from "./epochSamples.js";
import type { Tensor } from "../../torch/index.js";
import type { ViewBuffers } from "./viewBuffers.js";

/** One image of a batch: its views' parameters, and why it is bad once that is known. */
export interface Row {
  sample: Sample;
  /** One for each view. */
  draws: ViewDraw[];
  reason: string | null;
}

/** Batch tensors, one for each view, that native threads are filling, and what belongs into their rows. */
export class BatchInMaking {
  readonly views: Tensor[];
  /** The images, in the order of their rows. */
  readonly rows: Row[] = [];
  /** Settles when the rows are written. */
  readonly written: Promise<void>;
  /** How many rows the batch before this one has taken. */
  taken = 0;

  /** @param fill adds the rows and writes their views */
  constructor(readonly size: number, private readonly buffers: ViewBuffers, fill: (batch: BatchInMaking) => Promise<void>) {
    this.views = buffers.take(size);
    this.written = fill(this);
    this.written.catch(() => undefined); // seen by whoever takes the batch
  }

  /** Copies a row of another batch, or of this one, here. */
  copyRow(to: number, from: BatchInMaking, row: number): void {
    if (from === this && row === to) return;
    this.views.forEach((view, i) => {
      const target = view.select(0, to), source = from.views[i]!.select(0, row);
      target.copy_(source);
      target.dispose();
      source.dispose();
    });
    this.rows[to] = from.rows[row]!;
  }

  dispose(): void {
    this.buffers.giveBack(this.views);
  }
}
