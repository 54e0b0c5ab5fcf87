import { TooManyBadImagesError, type BadImage } from "../../data/index.js";
import type { ProcessGroup } from "../../distributed/index.js";

/**
 * The unreadable images of all ranks. Each rank's loader fills its own batch from the images after them, so all local batches stay full and
 * queries keep their place among the gathered keys.
 */
export class SharedBadImages {
  readonly #all = new Map<number, BadImage>();
  /** How many of this rank's the others know of. */
  #told = 0;
  /** What this rank has said last that it would tell. */
  #telling = 0;

  /** @param known images that all ranks know of */
  constructor(private readonly group: ProcessGroup, known: readonly BadImage[], private readonly limits: { images: number; maxBad: number }) {
    for (const image of known) this.#all.set(image.index, image);
    this.#told = known.length;
  }

  /** How many images this rank has found of which the others do not know. */
  news(bad: readonly BadImage[]): number {
    this.#telling = bad.length;
    return bad.length - this.#told;
  }

  /**
   * @param bad this rank's
   * @param news whether any rank has said that it has found one
   * @returns those of all ranks, the same on each, in the order in which they became known
   * @throws TooManyBadImagesError
   */
  settle(bad: readonly BadImage[], news: boolean): BadImage[] {
    if (news) {
      // What the loader has found since is for the next step.
      const found = this.group.exchange(bad.slice(this.#told, this.#telling), "unreadable images");
      this.#told = this.#telling;
      for (const image of found.flat()) if (!this.#all.has(image.index)) this.#all.set(image.index, image);
      const { images, maxBad } = this.limits;
      if (this.#all.size > maxBad * images) throw new TooManyBadImagesError([...this.#all.values()], images, maxBad);
    }
    return this.all;
  }

  /** Those of all ranks that are known so far. */
  get all(): BadImage[] {
    return [...this.#all.values()];
  }
}
