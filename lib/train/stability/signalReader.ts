import { contrastStatistics, readContrastStatistics, STATISTICS_OF_A_CONTRAST, type MoCo } from "../../moco/index.js";
import { totalNorm } from "../../optim/index.js";
import type { StepSignals } from "../../report/index.js";
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import type { FoundNumbers } from "../runs/finiteGuard.js";
import { layerNorms } from "./gradientLayers.js";
import { median } from "./runningMedian.js";

/** The encoders' distance reads both of them, so it is measured in every tenth step only. */
const DISTANCE_EVERY = 10;

/** The signals of a step, without the words for what is wrong. */
export type Signals = Omit<StepSignals, "alerts">;

/**
 * Gathers what a step of MoCo tells about the training's stability.
 *
 * It sees the contrasts as the network's observer, one way or another the whole batch's, and has its numbers read along with the loss:
 * the device is never waited for.
 */
export class SignalReader {
  #contrasts: Tensor[] = []; // [6] each
  #keys = 0;
  #dim = 0;
  #withDistance = false;
  readonly #encoders: readonly [base: Tensor[], momentum: Tensor[]];

  constructor(private readonly moco: MoCo) {
    const followers = moco.momentumEncoder.parameters();
    const base = moco.baseEncoder.parameters();
    const learns = base.map(({ requiresGrad }) => requiresGrad);
    this.#encoders = [base.filter((_, i) => learns[i]), followers.filter((_, i) => learns[i])];
    moco.observer = (contrast) => {
      this.#contrasts.push(torch.keep(contrastStatistics(contrast)));
      this.#keys = contrast.keys.shape[0]!;
      this.#dim = contrast.keys.shape[1]!;
    };
  }

  /** Forgets what an earlier step has left, one that failed half-way. */
  forget(): void {
    for (const tensor of this.#contrasts) tensor.dispose();
    this.#contrasts = [];
  }

  /** The contrasts of a step in one row of numbers, for work that may be recorded; none where nothing was seen. Call after `forward`. */
  contrast(): Tensor[] {
    if (this.#contrasts.length === 0) return [];
    const row = torch.noGrad(() => torch.scope(() => torch.stack(this.#contrasts).mean(0)));
    this.forget();
    return [row];
  }

  /** How far the encoders are apart, at the steps that measure it: these are not all alike, so a recording is no place for it. Call after `forward`. */
  distance(step: number): Tensor[] {
    this.#withDistance = step % DISTANCE_EVERY === 0;
    if (!this.#withDistance) return [];
    const [base, momentum] = this.#encoders;
    return torch.noGrad(() => torch.scope(() => [torch.stack([totalNorm(torch._foreachSub(base, momentum) as Tensor[]), totalNorm(base)])]));
  }

  /** The signals of the step whose numbers, `contrast` and then `distance`, have been read along with the loss. */
  read({ gradientNorms, gradientNorm, further }: FoundNumbers): Signals {
    const { temperature } = this.moco;
    const signals: Signals = { ...gradientSignals(gradientNorms, gradientNorm) };
    if (further.length >= STATISTICS_OF_A_CONTRAST) {
      const figures = readContrastStatistics(further.slice(0, STATISTICS_OF_A_CONTRAST), { keys: this.#keys, temperature });
      const spread = Math.sqrt(this.#dim); // over 1/√dim
      signals.contrast = {
        accuracy: 100 * figures.accuracy, positive: figures.positive, negative: figures.negative,
        querySpread: spread * figures.queryStd, keySpread: spread * figures.keyStd,
        lossOverChance: figures.loss / chanceLoss(this.#keys, temperature),
      };
    }
    if (this.#withDistance) {
      const [difference, size] = further.slice(-2) as [number, number];
      signals.encoderDistance = difference / size;
    }
    return signals;
  }

  dispose(): void {
    this.forget();
    this.moco.observer = null;
  }
}

/**
 * Loss of a contrast that cannot tell the keys apart: `2τ·ln(keys)`. The loss that is logged is the sum of two such terms, one for each
 * direction, so there chance is twice as much.
 */
export function chanceLoss(keys: number, temperature: number): number {
  return 2 * temperature * Math.log(keys);
}

function gradientSignals(norms: ReadonlyMap<string, number>, norm: number): Pick<Signals, "gradients" | "stemRatio" | "firstBlockRatio"> {
  // A float16 step that is passed over.
  if (!Number.isFinite(norm)) return {};
  const gradients = layerNorms(norms);
  const { stem, blocks } = gradients;
  if (blocks.length === 0) return { gradients };
  const usual = median(blocks);
  return { gradients, ...(stem === null ? {} : { stemRatio: stem / usual }), firstBlockRatio: blocks[0]! / usual };
}
