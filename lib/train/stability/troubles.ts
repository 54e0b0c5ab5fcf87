import type { MoCo } from "../../moco/index.js";
import { VisionTransformer } from "../../models/index.js";
import { RunningMedian } from "./runningMedian.js";
import type { Signals } from "./signalReader.js";
import type { Spike, WatchedLayer } from "./spikeDetector.js";

/** Something that looks wrong. */
export interface Trouble {
  /** A word for its kind. */
  what: "stem-spike" | "first-block-spike" | "gradient-spike" | "accuracy-dip" | "collapse" | "chance";
  /** A few words for the progress line. */
  alert: string;
  /** What it is, and what usually helps. */
  message: string;
}

/** What the advice depends on. */
export interface TroubleContext {
  warmupEpochs: number;
  batchSize: number;
  temperature: number;
  m: number;
}

/** Features within a fifth of the spread that they would have all around are as good as one point: normal runs stay above a half. */
const COLLAPSED = 0.2;
/** One batch may look so by chance. */
const COLLAPSED_STEPS = 5;
/** The share of its usual value below which the accuracy dips. */
const DIP = 0.5;
/** Beside guessing, the accuracy that a dip can be told from. */
const TELLING_ACCURACY = 4;
/** Closer than this to the loss of guessing, nothing is learned. */
const AT_CHANCE = 0.98;
const AT_CHANCE_STEPS = 300;

const layerNames: Record<WatchedLayer, string> = { stem: "first layer", firstBlock: "first block", all: "whole network" };
const spikeKinds = { stem: "stem-spike", firstBlock: "first-block-spike", all: "gradient-spike" } as const;

interface Saved {
  accuracy: number[];
  collapsedFor: number;
  atChanceFor: number;
}

/** Judges the signals of one step after the other, and says in plain words what is wrong and what usually helps. */
export class TroubleFinder {
  readonly #accuracy = new RunningMedian();
  /** Steps in a row. */
  #collapsedFor = 0;
  #atChanceFor = 0;
  readonly #learnsPatches: boolean;

  constructor({ baseEncoder }: MoCo, private readonly context: TroubleContext) {
    this.#learnsPatches =
      baseEncoder instanceof VisionTransformer && baseEncoder.patchEmbed.parameters().some((parameter) => parameter.requiresGrad);
  }

  /** @param lr of the step */
  find({ contrast }: Signals, spikes: readonly Spike[], lr: number): Trouble[] {
    const found: Trouble[] = spikes.slice(0, 1).map((spike) => this.#spike(spike, lr));
    if (contrast === undefined) return found;
    const { accuracy, querySpread, keySpread, lossOverChance } = contrast;

    const usual = this.#accuracy.median;
    this.#accuracy.add(accuracy);
    const telling = usual !== null && usual >= (TELLING_ACCURACY * 100) / this.context.batchSize;
    if (telling && accuracy < DIP * usual) found.push(this.#dip(accuracy, usual, lr));

    const spread = Math.min(querySpread, keySpread);
    this.#collapsedFor = spread < COLLAPSED ? this.#collapsedFor + 1 : 0;
    if (this.#collapsedFor >= COLLAPSED_STEPS) found.push(this.#collapse(spread, querySpread < keySpread ? "queries" : "keys", lr));

    this.#atChanceFor = lossOverChance > AT_CHANCE ? this.#atChanceFor + 1 : 0;
    if (this.#atChanceFor >= AT_CHANCE_STEPS && this.#collapsedFor === 0) found.push(this.#chance(lossOverChance, lr));
    return found;
  }

  toJSON(): Record<keyof Saved, unknown> {
    return { accuracy: this.#accuracy, collapsedFor: this.#collapsedFor, atChanceFor: this.#atChanceFor };
  }

  restore({ accuracy, collapsedFor, atChanceFor }: Saved): void {
    this.#accuracy.restore(accuracy);
    this.#collapsedFor = collapsedFor;
    this.#atChanceFor = atChanceFor;
  }

  #spike({ layer, norm, usual, ratio }: Spike, lr: number): Trouble {
    const times = ratio < 100 ? ratio.toFixed(1) : ratio.toPrecision(2);
    return {
      what: spikeKinds[layer],
      alert: `gradient of the ${layerNames[layer]} ×${times}`,
      message:
        `the gradient of the ${layerNames[layer]} has spiked: its norm is ${norm.toPrecision(3)}, ${times} times the usual ${usual.toPrecision(3)}. ` +
        `Such spikes begin in the first layer, reach the last ones some tens of steps later and cost accuracy while the loss looks good. ${this.#calmer(lr)}`,
    };
  }

  #dip(accuracy: number, usual: number, lr: number): Trouble {
    return {
      what: "accuracy-dip",
      alert: `accuracy ${accuracy.toFixed(1)}% of usually ${usual.toFixed(1)}%`,
      message:
        `queries find their own keys in ${accuracy.toFixed(1)} % of the cases, and usually in ${usual.toFixed(1)} %: the training has partly ` +
        `failed and may recover to a worse result than it could have had. ${this.#calmer(lr)}`,
    };
  }

  #collapse(spread: number, of: string, lr: number): Trouble {
    const { batchSize, temperature, m } = this.context;
    return {
      what: "collapse",
      alert: `features ${(100 * spread).toFixed(0)}% spread`,
      message:
        `the features collapse: the ${of} of different images are nearly the same (standard deviation ${spread.toFixed(3)}/√dim; ` +
        `1/√dim is spread out, 0 one point). What usually helps: a lower rate (--lr; now ${lr.toPrecision(3)}), a larger batch (-b; now ` +
        `${batchSize}), more and more varied images, stronger augmentation, a slower momentum encoder (--moco-m; now ${m}), and the paper's ` +
        `temperature (--moco-t 0.2 for ViTs, 1 for ResNets; now ${temperature})`,
    };
  }

  #chance(lossOverChance: number, lr: number): Trouble {
    return {
      what: "chance",
      alert: "loss as of guessing",
      message:
        `the loss has been that of guessing for ${this.#atChanceFor} steps (${(100 * lossOverChance).toFixed(1)} % of it): nothing is learned. ` +
        `The rate may be too high or too low (--lr; now ${lr.toPrecision(3)}), the views too different (--crop-min), or the images too much alike`,
    };
  }

  /** What usually calms a training. */
  #calmer(lr: number): string {
    const { warmupEpochs } = this.context;
    const freeze = this.#learnsPatches ? "freeze the patch projection (--stop-grad-conv1; MoCo v3, section 4.2), " : "";
    return `What usually helps: ${freeze}a longer warm-up (--warmup-epochs; now ${warmupEpochs}), a lower rate (--lr; now ${lr.toPrecision(3)}), ` +
      "or --clip-grad; --on-spike skip leaves such steps out";
  }
}
