import { init, Linear } from "../../nn/index.js";
import { probeLearningRateAt, SGD } from "../../optim/index.js";
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import { scoreOf, type Score } from "../evaluateClassifier.js";
import { NonFiniteError, type StepPlace } from "../runs/finiteGuard.js";

/** A linear classifier in training. */
export interface LinearHead {
  /** Learning rate at the start, scaled with the batch size. */
  readonly lr: number;
  readonly linear: Linear;
  /** Of its weight and bias. */
  readonly optimizer: SGD;
  /** Its loss or its gradient was no finite number: it stays as it is, while others go on. */
  diverged: boolean;
}

export interface LinearHeadsOptions {
  featureDim: number;
  numClasses: number;
  /** Learning rate of each classifier at the start, scaled with the batch size. */
  rates: readonly number[];
  momentum: number;
  weightDecay: number;
  epochs: number;
  device: string;
}

/** What a step of all classifiers gave: of the one with the lowest loss. */
export interface HeadsStep {
  loss: number;
  /** Percent of the batch whose class was found. */
  acc1: number;
  /** Euclidean norm of its gradient, before the step. */
  gradientNorm: number;
  /** Its learning rate in this step. */
  lr: number;
}

/** An update beyond this could overflow float32 with the momentum that has added up. */
const LARGEST_UPDATE = 1e31;
/** Outputs that are computed at a time in evaluation. */
const LARGEST_OUTPUT = 2 ** 25;

/**
 * Linear classifiers of the same features, each trained with its own learning rate by SGD, as upstream's linear probe trains one: weights
 * from N(0, 0.01²), biases 0, half a cosine cycle of the learning rate by whole epochs.
 *
 * All see the same batches and share one matrix product [N, D] · [D, K·C] in each direction; apart from that, and so to rounding, each is
 * trained as if it were alone. They begin with the same weights.
 */
export class LinearHeads {
  readonly heads: readonly LinearHead[];
  readonly numClasses: number;
  readonly #epochs: number;
  readonly #device: string;

  constructor({ featureDim, numClasses, rates, momentum, weightDecay, epochs, device }: LinearHeadsOptions) {
    this.numClasses = numClasses;
    this.#epochs = epochs;
    this.#device = device;
    const first = new Linear(featureDim, numClasses);
    init.normal_(first.weight, 0, 0.01);
    init.zeros_(first.bias!);
    this.heads = rates.map((lr, k) => {
      const linear = k === 0 ? first : new Linear(featureDim, numClasses);
      if (k > 0) linear.loadStateDict(first.stateDict());
      linear.to(device);
      return { lr, linear, optimizer: new SGD(linear.parameters(), { lr, momentum, weightDecay }), diverged: false };
    });
  }

  /** Outputs [N, K, C] for features float32 [N, D]. */
  outputs(features: Tensor): Tensor {
    return torch.scope(() => {
      const all = (each: (head: LinearHead) => Tensor): Tensor => (this.heads.length === 1 ? each(this.heads[0]!) : torch.cat(this.heads.map(each)));
      const outputs = torch.linear(features, all(({ linear }) => linear.weight), all(({ linear }) => linear.bias!)); // [N, K·C]
      return outputs.view([-1, this.heads.length, this.numClasses]);
    });
  }

  /**
   * One step of every classifier on a batch.
   *
   * @param features float32 [N, D] on the device, without a graph
   * @param labels class of each row
   * @throws NonFiniteError when all have diverged; the last one's weights are as before the step
   */
  step(features: Tensor, labels: readonly number[], place: Omit<StepPlace, "lr">): HeadsStep {
    const { heads } = this;
    const count = labels.length;
    const figures = torch.scope(() => {
      const target = this.targetOf(labels);
      const outputs = this.outputs(features); // [N, K, C]
      const each = torch.crossEntropyLoss(outputs.flatten(0, 1), target.repeatInterleave(heads.length), null, 0); // [N·K]
      const losses = each.view([count, heads.length]).mean([0]); // [K]
      losses.sum().backward();
      const correct = outputs.detach().argmax(2).eq(target.unsqueeze(1)).sum([0]); // [K]
      const norms = torch._foreachNorm(heads.flatMap(({ linear }) => linear.parameters().map((each) => each.grad!)), 2);
      // One transfer from the device for all of it.
      return torch.cat([losses.detach(), correct.to("float32"), torch.stack(norms)]).toArray() as number[];
    });
    const steps = heads.map((head, k): HeadsStep => {
      head.optimizer.setLearningRate(probeLearningRateAt(place.epoch, { lr: head.lr, epochs: this.#epochs }));
      const norm = Math.hypot(figures[2 * heads.length + 2 * k]!, figures[2 * heads.length + 2 * k + 1]!);
      const { lr } = head.optimizer.paramGroups[0]!;
      return { loss: figures[k]!, acc1: (100 * figures[heads.length + k]!) / count, gradientNorm: norm, lr };
    });
    steps.forEach(({ loss, gradientNorm, lr }, k) => {
      if (!(Number.isFinite(loss) && lr * Math.max(1, gradientNorm) < LARGEST_UPDATE)) heads[k]!.diverged = true;
    });
    try {
      const going = heads.filter(({ diverged }) => !diverged);
      if (going.length === 0) throw divergence(steps, place);
      for (const { optimizer } of going) optimizer.step();
    } finally {
      for (const { optimizer } of heads) optimizer.zeroGrad();
    }
    const going = steps.filter((_, k) => !heads[k]!.diverged);
    return going.reduce((best, each) => (each.loss < best.loss ? each : best));
  }

  /**
   * Scores every classifier on features.
   *
   * @param features float32 [N, D], on the device or not
   * @returns sums over all rows, one for each classifier; of a diverged one no hits and an infinite loss
   */
  score(features: Tensor, labels: readonly number[]): Score[] {
    const { heads, numClasses } = this;
    const sums = heads.map((): Score => ({ correct1: 0, correct5: 0, loss: 0 }));
    const rows = Math.max(1, Math.floor(LARGEST_OUTPUT / (heads.length * numClasses)));
    for (let first = 0; first < labels.length; first += rows) {
      torch.scope(() => torch.noGrad(() => {
        const part = labels.slice(first, first + rows);
        const target = this.targetOf(part);
        const outputs = this.outputs(features.narrow(0, first, part.length).to(this.#device)); // [n, K, C]
        sums.forEach((sum, k) => {
          const score = scoreOf(outputs.select(1, k), target);
          for (const name of ["correct1", "correct5", "loss"] as const) sum[name] += score[name];
        });
      }));
    }
    return sums.map((sum, k) => {
      if (!Number.isFinite(sum.loss)) heads[k]!.diverged = true;
      return heads[k]!.diverged ? { correct1: 0, correct5: 0, loss: Infinity } : sum;
    });
  }

  /** Frees all but the classifier `kept`, which belongs to a model. */
  release(kept: unknown): void {
    for (const { linear, optimizer } of this.heads) {
      optimizer.zeroGrad();
      optimizer.dispose();
      if (linear !== kept) linear.dispose();
    }
  }

  private targetOf(labels: readonly number[]): Tensor {
    return torch.tensor([...labels], undefined, { dtype: "int64", device: this.#device });
  }
}

function divergence(steps: readonly HeadsStep[], { step, epoch, stepInEpoch }: Omit<StepPlace, "lr">): NonFiniteError {
  const [{ loss, gradientNorm, lr }] = steps as [HeadsStep];
  const finding = Number.isFinite(loss) ? `the gradient's norm is ${gradientNorm}` : `the loss is ${loss}`;
  const many = steps.length === 1 ? "" : ` of all ${steps.length} classifiers, and`;
  const message =
    `Step ${step} (number ${stepInEpoch} of epoch ${epoch}, all counted from 0):${many} ${finding}. ` +
    `The learning rate (${lr.toPrecision(3)} at this step) is too high; begin again with a lower --lr`;
  return new NonFiniteError(message, Number.isFinite(loss) ? "gradient" : "loss", step, epoch);
}
