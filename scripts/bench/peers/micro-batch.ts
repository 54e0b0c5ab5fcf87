// One measurement of the micro-batch benchmark for each line of input.
import { createInterface } from "node:readline";
import { ImageFolder, TwoViewLoader } from "../../../lib/data/index.js";
import { createMoCo, GradientCache, type MoCo } from "../../../lib/moco/index.js";
import { createModel } from "../../../lib/models/index.js";
import { AdamW } from "../../../lib/optim/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import type { Comparison, MicroBatchRequest, StepAnswer } from "../microBatchProtocol.js";

type Views = [Tensor, Tensor];

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line) as MicroBatchRequest;
  torch.setNumThreads(request.threads);
  torch.retainFreedMemory();
  torch.manualSeed(0);
  console.log(JSON.stringify(request.do === "step" ? await measureSteps(request) : await compare(request)));
}

function build(arch: string, imageSize: number): MoCo {
  // A ResNet's residual branches do not begin at zero, as in pre-training: their BatchNorm would make no difference yet.
  return createMoCo({
    encoder: (numClasses) => createModel(arch, { imageSize, numClasses, stopGradConv1: !arch.startsWith("resnet"), zeroInitResidual: false }) as never,
    temperature: arch.startsWith("resnet") ? 1 : 0.2,
  });
}

function noise(count: number, imageSize: number): Views {
  return [0, 1].map(() => torch.keep(torch.randn([count, 3, imageSize, imageSize]))) as Views;
}

async function measureSteps({ arch, imageSize, batch, chunk, rounds }: MicroBatchRequest & { do: "step" }): Promise<StepAnswer> {
  using moco = build(arch, imageSize);
  using optimizer = new AdamW(moco.parameters(), { lr: 1e-4, weightDecay: 0.1 });
  using cache = chunk === null ? null : new GradientCache(moco, { chunk, shouldStop: () => false });
  const views = noise(batch, imageSize);
  const stepSeconds: number[] = [];
  let loss = NaN;
  for (let round = 0; round <= rounds; round++) {
    const started = performance.now();
    loss = await gradients(moco, cache, views);
    optimizer.step();
    optimizer.zeroGrad();
    if (round > 0) stepSeconds.push((performance.now() - started) / 1000); // the first warms up
  }
  return { stepSeconds, loss };
}

/** Forward and backward; returns the loss. */
async function gradients(moco: MoCo, cache: GradientCache | null, views: Views): Promise<number> {
  using scope = torch.openScope();
  if (cache !== null) {
    const loss = (await cache.run(views, 0.99))!;
    scope.adopt(loss);
    return loss.item() as number;
  }
  return scope.run(() => {
    const loss = moco.forward(...views, 0.99);
    loss.backward();
    return loss.item() as number;
  });
}

async function compare({ arch, imageSize, batch, chunks, data }: MicroBatchRequest & { do: "compare" }): Promise<{ comparisons: Comparison[] }> {
  using moco = build(arch, imageSize);
  const views = data === null ? noise(batch, imageSize) : await photographs(data, batch, imageSize);
  const wholeLoss = await gradients(moco, null, views);
  const learned = moco.namedParameters().filter(([, { grad }]) => grad !== null);
  const whole = learned.map(([, { grad }]) => torch.keep(grad!.clone()));
  const comparisons: Comparison[] = [];
  for (const chunk of chunks) {
    moco.zeroGrad();
    using cache = new GradientCache(moco, { chunk });
    const loss = await gradients(moco, cache, views);
    comparisons.push({ chunk, loss, wholeLoss, ...torch.scope(() => apart(learned, whole)) });
  }
  return { comparisons };
}

function apart(learned: readonly [string, Tensor][], whole: readonly Tensor[]): Pick<Comparison, "gradient" | "worst"> {
  const product = (a: Tensor, b: Tensor): number => a.to("float64").mul(b.to("float64")).sum().item() as number;
  const each = learned.map(([name, parameter], i) => torch.scope(() => {
    const [found, expected] = [parameter.grad!, whole[i]!];
    const difference = found.to("float64").sub(expected.to("float64"));
    return { name, difference: product(difference, difference), dot: product(found, expected), found: product(found, found), expected: product(expected, expected) };
  }));
  const sum = (key: "difference" | "dot" | "found" | "expected"): number => each.reduce((total, one) => total + one[key], 0);
  const large = each.filter(({ expected }) => expected > 1e-6 * sum("expected"));
  const [worst] = large.map(({ name, difference, expected }) => ({ name, relative: Math.sqrt(difference / expected) })).sort((a, b) => b.relative - a.relative);
  return {
    gradient: { relative: Math.sqrt(sum("difference") / sum("expected")), cosine: sum("dot") / Math.sqrt(sum("found") * sum("expected")) },
    worst: worst!,
  };
}

async function photographs(folder: string, batch: number, imageSize: number): Promise<Views> {
  await using loader = new TwoViewLoader(await ImageFolder.open(folder), { batchSize: batch, imageSize, seed: 0 });
  for await (const { views } of loader.epoch(0)) return views;
  throw new Error(`${folder} has no batch`);
}
