import type { BadImage } from "../../data/index.js";
import type { Ranks } from "../ranks/ranks.js";
import type { ProbeBatch, ProbeBatches } from "./probeBatches.js";

/**
 * Batches whose features all ranks compute together, each of its own images. Every rank gets those of the whole batch, in the order that one
 * process would have, and trains the same classifiers: what goes over the network is as much as their gradients would be, and nothing
 * depends on the number of ranks.
 */
export class SharedBatches implements ProbeBatches {
  constructor(private readonly own: ProbeBatches, private readonly ranks: Ranks) {}

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
    for await (using batch of this.own.epoch(epoch, startStep)) {
      this.ranks.talk(this.own.bad);
      const features = this.ranks.rowsOfAll(batch.features);
      const labels = this.ranks.numbersOfAll(batch.labels);
      yield { features, labels, waitMs: batch.waitMs, [Symbol.dispose]: () => features.dispose() };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.own[Symbol.asyncDispose]();
  }
}
