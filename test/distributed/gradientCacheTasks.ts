// What the ranks of gradientCache.test.ts do.
import { GradientAverager, synchronizeBatchNorm, type ProcessGroup } from "../../lib/distributed/index.js";
import { createMoCo, GradientCache, type MoCo } from "../../lib/moco/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";

export interface CachedSteps {
  images: number;
  steps: number;
  /** Of each rank; null for the whole part at once. */
  chunk: number | null;
  /** Rank 1 wishes to stop at this place of the second step. */
  stopAt?: number;
}

export interface StepsResult {
  losses: (number | null)[];
  state: number[][];
}

/** A step by gradients alone: enough to see whether they are the same. */
const learningRate = 0.1;

/** Steps of this rank's part of each batch, or of the whole without a group. */
export async function train(group: ProcessGroup | null, { images, steps, chunk, stopAt }: CachedSteps): Promise<StepsResult> {
  torch.manualSeed(3);
  using moco = build();
  if (group !== null) {
    synchronizeBatchNorm(moco, group);
    moco.gatherer = group;
  }
  using averager = group === null ? null : new GradientAverager(moco.parameters(), group);
  let asked = 0;
  const wish = (step: number) => (): boolean => {
    const mine = group!.rank === 1 && step === 1 && asked++ === stopAt;
    return torch.scope(() => group!.allReduce_(torch.tensor([mine ? 1 : 0]), "max").item() === 1);
  };
  const losses: (number | null)[] = [];
  for (let step = 0; step < steps; step++) {
    using scope = torch.openScope();
    const views = scope.run(() => [0, 1].map(() => part(torch.randn([images, 3, 32, 32], { dtype: "float64" }), group))) as [Tensor, Tensor];
    let loss: Tensor | null;
    if (chunk === null) {
      loss = scope.run(() => moco.forward(...views, 0.9));
      loss.backward();
    } else {
      using cache = new GradientCache(moco, { chunk, ...(stopAt !== undefined && { shouldStop: wish(step) }) });
      loss = await cache.run(views, 0.9);
      if (loss !== null) scope.adopt(loss);
    }
    if (loss === null) {
      losses.push(null);
      break;
    }
    averager?.average();
    scope.run(() => {
      const value = loss.detach();
      losses.push((group?.allReduce_(value, "mean") ?? value).item() as number);
      torch.noGrad(() => moco.parameters().forEach((parameter) => parameter.grad && parameter.sub_(parameter.grad.mul(learningRate))));
    });
    moco.zeroGrad();
  }
  return { losses, state: [...moco.stateDict().values()].map((tensor) => Array.from(tensor.data(), Number)) };
}

function build(): MoCo {
  const moco = createMoCo({
    encoder: (numClasses) => new VisionTransformer({ imageSize: 32, patchSize: 8, embedDim: 48, depth: 2, numHeads: 4, numClasses }),
    dim: 16, mlpDim: 32, temperature: 0.2,
  });
  moco.to("float64");
  return moco;
}

function part(batch: Tensor, group: ProcessGroup | null): Tensor {
  return group === null ? batch : batch.chunk(group.size, 0)[group.rank]!;
}
