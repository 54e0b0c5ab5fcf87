import type { Encoder } from "../models/index.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { byDtype } from "./stepMemory.js";

/**
 * The running statistics of an encoder, its head's apart, whose batch comes in chunks. A step moves them once for each view, as without
 * chunks, and towards the mean of the chunks' statistics: each chunk begins with the statistics that the batch began with, and what they
 * become is averaged, weighted by images. Encoding a chunk again changes nothing.
 *
 * Left to itself, BatchNorm would move them twice for each chunk, so that they would forget sooner and follow the last chunk.
 */
export class ChunkStatistics {
  /** Means and variances. */
  readonly #running: readonly Tensor[];
  readonly #sums: readonly Tensor[];
  readonly #groups: readonly { live: Tensor[]; before: Tensor[] }[];

  constructor(encoder: Encoder) {
    const buffers = encoder.namedBuffers().filter(([name]) => !name.startsWith(`${encoder.headKey}.`)).map(([, buffer]) => buffer);
    this.#running = buffers.filter(({ dtype }) => dtype.includes("float"));
    const like = (tensors: readonly Tensor[]): Tensor[] => torch.noGrad(() => tensors.map((tensor) => torch.keep(torch.zerosLike(tensor))));
    this.#sums = like(this.#running);
    this.#groups = byDtype(buffers).map((live) => ({ live, before: like(live) }));
  }

  /** Whether the encoder has no such statistics, as a ViT has none. */
  get empty(): boolean {
    return this.#groups.length === 0;
  }

  /** A batch begins. */
  begin(): void {
    if (this.empty) return;
    this.#remember();
    torch.noGrad(() => torch._foreachZero_(this.#sums));
  }

  /** Encodes a chunk that is this share of the batch. */
  record<T>(share: number, encode: () => T): T {
    if (this.empty) return encode();
    this.#putBack();
    const result = encode();
    torch.noGrad(() => torch.scope(() => torch._foreachAdd_(this.#sums, this.#running, { alpha: share })));
    return result;
  }

  /** All chunks have been encoded. */
  settle(): void {
    if (this.empty) return;
    torch.noGrad(() => torch._foreachCopy_(this.#running, this.#sums));
    this.#remember();
  }

  /** Encodes a chunk once more, after `settle`. */
  repeat(encode: () => void): void {
    encode();
    if (!this.empty) this.#putBack();
  }

  #remember(): void {
    torch.noGrad(() => this.#groups.forEach(({ live, before }) => torch._foreachCopy_(before, live)));
  }

  #putBack(): void {
    torch.noGrad(() => this.#groups.forEach(({ live, before }) => torch._foreachCopy_(live, before)));
  }

  dispose(): void {
    [...this.#sums, ...this.#groups.flatMap(({ before }) => before)].forEach((tensor) => tensor.dispose());
  }
}
