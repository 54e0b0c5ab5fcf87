import type { LayerNorms } from "../../report/index.js";
import { RunningMedian } from "./runningMedian.js";

/** Whose gradient is watched for spikes, from the images upwards: instability begins there (MoCo v3, section 4.2 and figure 4). */
export const watchedLayers = ["stem", "firstBlock", "all"] as const;
export type WatchedLayer = (typeof watchedLayers)[number];

/** A gradient far above what was usual in the last steps. */
export interface Spike {
  layer: WatchedLayer;
  norm: number;
  /** Running median of that norm. */
  usual: number;
  ratio: number;
}

/** Below this share of all gradients' norm a layer's cannot harm, however much it grew. */
const LEAST_SHARE = 0.05;
/** Below this norm gradients are roundings, as where the loss has reached its least possible value. */
const LEAST_NORM = 1e-6;

/**
 * Finds spikes: a gradient's norm of more than `ratio` times its running median over the last hundred steps.
 *
 * The median takes in every step, spikes too: a few do not move it, and a training that has come to a new level is usual again after fifty
 * steps. In a run's first twenty steps nothing is a spike.
 */
export class SpikeDetector {
  readonly #usual: Record<WatchedLayer, RunningMedian> = { stem: new RunningMedian(), firstBlock: new RunningMedian(), all: new RunningMedian() };

  constructor(private readonly ratio: number) {}

  /** The step's spikes, that of the lowest layer first, and none where the gradients were not finite. */
  look(norm: number, layers: LayerNorms | undefined): Spike[] {
    if (!Number.isFinite(norm)) return [];
    const norms: Record<WatchedLayer, number | null> = { stem: layers?.stem ?? null, firstBlock: layers?.blocks[0] ?? null, all: norm };
    return watchedLayers.flatMap((layer) => {
      const value = norms[layer];
      if (value === null) return [];
      const usual = this.#usual[layer].median;
      this.#usual[layer].add(value);
      const counts = usual !== null && value > Math.max(LEAST_NORM, LEAST_SHARE * norm, this.ratio * usual);
      return counts ? [{ layer, norm: value, usual, ratio: value / usual }] : [];
    });
  }

  toJSON(): Record<WatchedLayer, RunningMedian> {
    return this.#usual;
  }

  restore(saved: Record<WatchedLayer, number[]>): void {
    for (const layer of watchedLayers) this.#usual[layer].restore(saved[layer]);
  }
}
