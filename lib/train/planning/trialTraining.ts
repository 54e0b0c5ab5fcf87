import { createMoCo, type MoCo } from "../../moco/index.js";
import { GradScaler, type Optimizer } from "../../optim/index.js";
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import { chooseKernels } from "../kernels.js";
import { createOptimizer, type Recipe } from "../pretrainOptions.js";
import { FiniteGuard } from "../runs/finiteGuard.js";
import { chunkedLoading, createTrainingStep, type TrainingStep } from "../trainingStep.js";

/** Real steps of a recipe on made-up views, to be timed and weighed. Nothing is read or written. */
export class TrialTraining {
  readonly moco: MoCo;
  readonly #recipe: Recipe;
  readonly #optimizer: Optimizer;
  readonly #scaler: GradScaler;
  readonly #guard: FiniteGuard;
  readonly #trainingStep: TrainingStep;
  readonly #kernels: Disposable;
  #steps = 0;

  constructor(recipe: Recipe) {
    const { device } = recipe;
    this.#recipe = recipe;
    this.#kernels = chooseKernels(recipe);
    if (recipe.threads !== null) torch.setNumThreads(recipe.threads);
    torch.manualSeed(0);
    this.moco = createMoCo({
      encoder: recipe.encoder, imageSize: recipe.imageSize, patchSize: recipe.patchSize ?? undefined, stopGradConv1: recipe.stopGradConv1,
      dim: recipe.dim, mlpDim: recipe.mlpDim, temperature: recipe.temperature,
    }).to(device).train();
    this.#optimizer = createOptimizer(this.moco.parameters(), recipe);
    this.#scaler = new GradScaler({ enabled: recipe.precision === "fp16", device });
    const guard = (this.#guard = new FiniteGuard(this.moco, this.#scaler, recipe));
    this.#trainingStep = createTrainingStep({ moco: this.moco, optimizer: this.#optimizer, scaler: this.#scaler }, recipe, { watch: {
      forget: () => undefined, numbers: (loss) => guard.numbers(loss), findings: (numbers) => guard.findings(numbers), undo: () => guard.undo(),
    } });
  }

  /** One step with `batch` images; returns its seconds, without the making of the views. The learning rate is too small to matter. */
  async step(batch: number): Promise<number> {
    const { device, m } = this.#recipe;
    const lr = 1e-9;
    using made = torch.openScope();
    const views = made.run(() => [this.#view(batch), this.#view(batch)] as const);
    torch.currentStream(device).synchronize();
    const start = performance.now();
    this.#optimizer.setLearningRate(lr);
    using computing = torch.openScope();
    computing.run(() => this.#guard.remember());
    const found = (await this.#trainingStep.compute(views, m, computing))!;
    this.#guard.judge(found, { step: this.#steps++, epoch: 0, stepInEpoch: 0, lr });
    computing.run(() => {
      this.#trainingStep.update();
      this.#optimizer.zeroGrad();
    });
    torch.currentStream(device).synchronize();
    return (performance.now() - start) / 1000;
  }

  #view(batch: number): Tensor {
    const { device, imageSize } = this.#recipe;
    const shape = [batch, 3, imageSize, imageSize];
    if (chunkedLoading(this.#recipe).dtype === "uint8") return torch.randint(256, shape, { dtype: "uint8", device });
    return torch.randn(shape, { device });
  }

  [Symbol.dispose](): void {
    this.#optimizer.zeroGrad();
    for (const each of [this.#trainingStep, this.#optimizer, this.#scaler, this.#guard, this.moco]) each[Symbol.dispose]();
    this.#kernels[Symbol.dispose]();
  }
}
