import type { BadImage } from "../../data/index.js";
import type { Ranks } from "../ranks/ranks.js";
import type { ProbeBatch, ProbeBatches } from "./probeBatches.js";

/**
 * Batches whose features all ranks compute together, each of its own images. Every rank gets those of the whole batch, in the order that one
 * process would have, and trains the same classifiers: what goes over the network is as much as their gradients would be, and nothing
 * depends on the number of ranks.
 */
export class SharedBatches implements ProbeBatches {
  /** @param batchSize images of all ranks in a step */
  constructor(private readonly own: ProbeBatches, private readonly ranks: Ranks, private readonly batchSize: number) {}

  get images(): number {
    return this.own.images;
  }

  get stepsPerEpoch(): number {
    return this.own.stepsPerEpoch;
  }

  get bad(): readonly BadImage[] {
    return this.ranks.bad([...this.own.bad]);
  }

  get moved(): readonly BadImage[] {
    return this.bad;
  }

  async *epoch(epoch: number, startStep: number): AsyncGenerator<ProbeBatch, void, undefined> {
    let left = this.images - startStep * this.batchSize;
    for await (using batch of this.own.epoch(epoch, startStep)) {
      this.ranks.talk(this.own.bad);
      // Where the ranks' parts of the last batch were padded to be equal, what was added comes last.
      const labels = this.ranks.numbersOfAll(batch.labels).slice(0, left);
      const features = this.ranks.rowsOfAll(batch.features, left);
      left -= labels.length;
      yield { features, labels, waitMs: batch.waitMs, [Symbol.dispose]: () => features.dispose() };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.own[Symbol.asyncDispose]();
  }
}
