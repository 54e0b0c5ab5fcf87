// One measurement of the micro-batch benchmark for each line of input.
import { createInterface } from "node:readline";
import { ImageFolder, TwoViewLoader } from "../../../lib/data/index.js";
import { createMoCo, GradientCache, type MoCo } from "../../../lib/moco/index.js";
import { AdamW, LARS } from "../../../lib/optim/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import type { CompareAnswer, Comparison, MicroBatchRequest, StepAnswer } from "../microBatchProtocol.js";

type Views = [Tensor, Tensor];

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line) as MicroBatchRequest;
  torch.setNumThreads(request.threads);
  torch.retainFreedMemory();
  torch.manualSeed(0);
  console.log(JSON.stringify(request.do === "step" ? await measureSteps(request) : await compare(request)));
}

function build(arch: string, imageSize: number): MoCo {
  const resnet = arch.startsWith("resnet");
  return createMoCo({ encoder: arch, imageSize, stopGradConv1: !resnet, temperature: resnet ? 1 : 0.2 });
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

async function compare({ arch, imageSize, batch, chunks, data, trained }: MicroBatchRequest & { do: "compare" }): Promise<CompareAnswer> {
  using moco = build(arch, imageSize);
  const batches = data === null ? endless(batch, imageSize) : pictures(data, batch, imageSize);
  const next = async (): Promise<Views> => (await batches.next()).value as Views;
  await train(moco, arch, trained, next);

  const views = await next();
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
  let otherBatchCosine: number | null = null;
  if (data !== null) {
    moco.zeroGrad();
    await gradients(moco, null, await next());
    otherBatchCosine = torch.scope(() => apart(learned, whole)).gradient.cosine;
  }
  await batches.return(undefined);
  return { comparisons, otherBatchCosine };
}

/** The first steps of a training, of whole batches. */
async function train(moco: MoCo, arch: string, steps: number, next: () => Promise<Views>): Promise<void> {
  if (steps === 0) return;
  using optimizer = arch.startsWith("resnet")
    ? new LARS(moco.parameters(), { lr: 0.6, weightDecay: 1e-6 })
    : new AdamW(moco.parameters(), { lr: 3e-4, weightDecay: 0.1 });
  for (let step = 0; step < steps; step++) {
    const loss = await gradients(moco, null, await next());
    if (step % 10 === 0) process.stderr.write(`${arch}, step ${step}: loss ${loss}\n`);
    optimizer.step();
    optimizer.zeroGrad();
  }
}

async function* endless(batch: number, imageSize: number): AsyncGenerator<Views, void, undefined> {
  for (;;) yield noise(batch, imageSize);
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

async function* pictures(folder: string, batch: number, imageSize: number): AsyncGenerator<Views, void, undefined> {
  await using loader = new TwoViewLoader(await ImageFolder.open(folder), { batchSize: batch, imageSize, seed: 0 });
  for (let epoch = 0; ; epoch++) for await (const { views } of loader.epoch(epoch)) yield views;
}
