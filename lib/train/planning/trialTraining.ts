import { createMoCo, type MoCo } from "../../moco/index.js";
import { GradScaler, type Optimizer } from "../../optim/index.js";
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import { chooseKernels } from "../kernels.js";
import { createAutocast } from "../options.js";
import { createOptimizer, type Recipe } from "../pretrainOptions.js";
import { FiniteGuard } from "../runs/finiteGuard.js";

/** Real steps of a recipe on made-up views, to be timed and weighed. Nothing is read or written. */
export class TrialTraining {
  readonly moco: MoCo;
  readonly #recipe: Recipe;
  readonly #optimizer: Optimizer;
  readonly #scaler: GradScaler;
  readonly #guard: FiniteGuard;
  readonly #autocast: <T>(fn: () => T) => T;
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
    this.#guard = new FiniteGuard(this.moco, this.#scaler, recipe);
    this.#autocast = createAutocast(recipe);
  }

  /** One step with `batch` images; returns its seconds, without the making of the views. The learning rate is too small to matter. */
  step(batch: number): number {
    const { device, imageSize, m } = this.#recipe;
    const lr = 1e-9;
    return torch.scope(() => {
      const views = [0, 1].map(() => torch.randn([batch, 3, imageSize, imageSize], { device })) as [Tensor, Tensor];
      torch.currentStream(device).synchronize();
      const start = performance.now();
      this.#optimizer.setLearningRate(lr);
      torch.scope(() => {
        this.#guard.remember();
        const output = this.#autocast(() => this.moco.forward(...views, m));
        this.#scaler.scale(output).backward();
        this.#scaler.unscale_(this.#optimizer);
        this.#guard.check(output, { step: this.#steps++, epoch: 0, stepInEpoch: 0, lr });
        this.#scaler.step(this.#optimizer);
        this.#scaler.update();
        this.#optimizer.zeroGrad();
      });
      torch.currentStream(device).synchronize();
      return (performance.now() - start) / 1000;
    });
  }

  [Symbol.dispose](): void {
    this.#optimizer.zeroGrad();
    for (const each of [this.#optimizer, this.#scaler, this.#guard, this.moco]) each.dispose();
    this.#kernels[Symbol.dispose]();
  }
}
