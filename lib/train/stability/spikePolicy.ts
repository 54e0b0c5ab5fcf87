import type { Spike } from "./spikeDetector.js";

/** What to do about a step whose gradient spikes. */
export type OnSpike = "warn" | "skip" | "rollback";
export const spikeAnswers = ["warn", "skip", "rollback"] as const satisfies readonly OnSpike[];

/** Steps that may be skipped among the last {@link SKIP_WINDOW}: more, and it is no spike but the training as it is. */
export const MOST_SKIPS = 10;
export const SKIP_WINDOW = 100;
/** How often a run goes back to the same state: each time it goes on with other images. */
export const MOST_ROLLBACKS = 3;

/** Spikes came more often than skipping or going back can help with. */
export class SpikeLimitError extends Error {
  override readonly name = "SpikeLimitError";

  constructor(message: string, readonly step: number, readonly onSpike: OnSpike) {
    super(message);
  }
}

interface Saved {
  skipped: number[];
  rollbacks: { to: number; times: number };
}

/** Decides what becomes of a step that spikes, and when it is enough. Its decisions follow from the steps alone. */
export class SpikePolicy {
  #skipped: number[] = [];
  #rollbacks = { to: -1, times: 0 };

  constructor(readonly onSpike: OnSpike) {}

  /**
   * @param snapshot step whose state a rollback would go back to
   * @throws SpikeLimitError where it was enough
   */
  decide(spikes: readonly Spike[], step: number, snapshot: number | null): "skipped" | "rolled-back" | undefined {
    const [spike] = spikes;
    if (spike === undefined || this.onSpike === "warn") return undefined;
    const advice =
      "Resume from an earlier checkpoint with a lower --lr, a longer --warmup-epochs or, for a ViT, --stop-grad-conv1; " +
      `or let spikes pass with --on-spike warn. The last one: gradient norm ${spike.norm.toPrecision(3)}, usually ${spike.usual.toPrecision(3)}.`;
    if (this.onSpike === "skip") {
      this.#skipped = [...this.#skipped.filter((each) => step - each < SKIP_WINDOW), step];
      if (this.#skipped.length <= MOST_SKIPS) return "skipped";
      throw new SpikeLimitError(
        `Step ${step}: the gradient spikes, and ${MOST_SKIPS} of the last ${SKIP_WINDOW} steps have been skipped for that already, which is the limit. ${advice}`,
        step, this.onSpike,
      );
    }
    if (snapshot === null) throw new Error("a rollback needs a state to go back to; call begin() before the step");
    this.#rollbacks = { to: snapshot, times: this.#rollbacks.to === snapshot ? this.#rollbacks.times + 1 : 1 };
    if (this.#rollbacks.times <= MOST_ROLLBACKS) return "rolled-back";
    throw new SpikeLimitError(
      `Step ${step}: the gradient spikes, and the run has gone back to step ${snapshot} ${MOST_ROLLBACKS} times already, which is the limit. ${advice}`,
      step, this.onSpike,
    );
  }

  toJSON(): Saved {
    return { skipped: this.#skipped, rollbacks: this.#rollbacks };
  }

  restore({ skipped, rollbacks }: Saved): void {
    this.#skipped = skipped;
    this.#rollbacks = rollbacks;
  }
}
