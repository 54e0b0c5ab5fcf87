// Our side of the step benchmark on a GPU: one request for each line of input, one line of JSON in answer.
import { createInterface } from "node:readline";
import { cudaAddon } from "../../../lib/native/cuda.js";
import { createMoCo, type MoCo } from "../../../lib/moco/index.js";
import { ResNet, VisionTransformer } from "../../../lib/models/index.js";
import { GradScaler, type Optimizer } from "../../../lib/optim/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { chooseKernels } from "../../../lib/train/kernels.js";
import { createOptimizer, resolveOptions, type PretrainOptions, type Recipe } from "../../../lib/train/pretrainOptions.js";
import { StepWatch } from "../../../lib/train/stability/stepWatch.js";
import { createTrainingStep, type TrainingStep } from "../../../lib/train/trainingStep.js";
import type { GpuRequest, GpuSetup, Machine, Measured, Ready } from "../stepGpuProtocol.js";

const { device } = JSON.parse(process.argv[2] as string) as { device: string };
const isGpu = device !== "cpu";
const synchronize = (): void => torch.currentStream(device).synchronize();

/** Milliseconds of a part of a step: until it is queued, and until it is done. */
type Parts = Record<string, { queued: number[]; done: number[] }>;

/** Images and weights channel by channel, as PyTorch's own ResNets have them. */
class NchwResNet extends ResNet {
  constructor(options: ConstructorParameters<typeof ResNet>[0]) {
    super(options);
    for (const parameter of this.parameters()) torch.setData(parameter, torch.noGrad(() => parameter.contiguous()));
  }

  override forwardFeatures(images: Tensor): Tensor {
    return torch.scope(() => {
      let x = this.maxpool.forward(torch.relu_(this.bn1.forward(this.conv1.forward(images.contiguous()))));
      for (const stage of this.stages) x = stage.forward(x);
      return torch.adaptiveAvgPool2d(x, [1, 1]).flatten(1);
    });
  }
}

function encoderOf({ arch, imageSize, nchw, stop_grad: stopGradConv1 }: GpuSetup): NonNullable<PretrainOptions["encoder"]> {
  if (arch === "tiny_vit") {
    return (numClasses) => new VisionTransformer({ imageSize, patchSize: 16, embedDim: 48, depth: 2, numHeads: 12, numClasses, stopGradConv1 });
  }
  const Network = nchw ? NchwResNet : ResNet;
  if (arch === "tiny_resnet") return (numClasses) => new Network({ block: "basic", layers: [1, 1, 1, 1], numClasses, zeroInitResidual: true });
  if (nchw && arch === "resnet50") return (numClasses) => new Network({ block: "bottleneck", layers: [3, 4, 6, 3], numClasses, zeroInitResidual: true });
  return arch;
}

/** `pretrain`'s step on synthetic views, with all that belongs to it. */
class Training implements Disposable {
  readonly #recipe: Recipe;
  readonly #moco: MoCo;
  readonly #optimizer: Optimizer;
  readonly #scaler: GradScaler;
  readonly #watch: StepWatch;
  readonly #trainingStep: TrainingStep;
  readonly #views: [Tensor, Tensor];
  readonly #kernels: Disposable;
  #steps = 0;

  constructor(setup: GpuSetup) {
    const { arch, batch, imageSize, mlp: mlpDim, optimizer, stop_grad: stopGradConv1, precision, deterministic, graph, flags } = setup;
    const isVit = arch.includes("vit");
    const recipe = (this.#recipe = resolveOptions({
      data: { length: batch, image: () => "none" }, encoder: encoderOf(setup), imageSize, mlpDim, optimizer, stopGradConv1, precision, deterministic, device,
      batchSize: batch, temperature: isVit ? 0.2 : 1, cudaGraph: graph && isGpu ? "on" : "off", ...(isVit ? { lr: 1e-4, weightDecay: 0.1 } : { lr: 0.1 }),
    }));
    this.#kernels = chooseKernels(recipe);
    torch.setBackendFlags(flags);
    torch.manualSeed(0);
    this.#moco = createMoCo({ encoder: recipe.encoder, imageSize, stopGradConv1, mlpDim, temperature: recipe.temperature }).to(device).train();
    this.#optimizer = createOptimizer(this.#moco.parameters(), recipe);
    this.#scaler = new GradScaler({ enabled: precision === "fp16", device });
    const trained = { moco: this.#moco, optimizer: this.#optimizer, scaler: this.#scaler };
    this.#watch = new StepWatch(trained, recipe, {
      facts: { arch, seed: 0, images: batch, stepsPerEpoch: 1, batchSize: batch, recipe: {} }, source: { length: batch, image: () => "none" },
      warn: () => undefined,
    });
    this.#trainingStep = createTrainingStep(trained, recipe, {
      watch: this.#watch,
      onWarning: (message) => {
        throw new Error(message); // a graph that is none would be measured as one
      },
    });
    this.#views = torch.scope(() => [0, 1].map(() => torch.keep(torch.randn([batch, 3, imageSize, imageSize], { device })))) as [Tensor, Tensor];
  }

  /** @param part gives each part of the step a name */
  async step(part: <T>(name: string, fn: () => T) => T = (_, fn) => fn()): Promise<number> {
    const { lr } = this.#recipe;
    const [views, step] = [this.#views, this.#steps++];
    using computing = torch.openScope();
    part("remember", () => this.#watch.begin(step));
    this.#optimizer.setLearningRate(lr);
    const found = (await this.#trainingStep.compute(views, 0.99, computing))!;
    await found.arrive();
    const batch = { views, indices: [], labels: [], step, waitMs: 0, [Symbol.dispose]: () => undefined };
    const { loss } = await this.#watch.judge(found, { step, epoch: 0, stepInEpoch: 0, lr, momentum: 0.99, batch, bad: [] });
    computing.run(() => {
      part("optimizer", () => this.#trainingStep.update());
      part("zero gradients", () => this.#optimizer.zeroGrad());
    });
    return loss;
  }

  /** The parts of a step one by one, the device idle in between. */
  async profile(parts: Parts): Promise<void> {
    const part = <T>(name: string, fn: () => T): T => {
      synchronize();
      const start = performance.now();
      const result = fn();
      const queued = performance.now() - start;
      synchronize();
      const { queued: allQueued, done } = (parts[name] ??= { queued: [], done: [] });
      allQueued.push(queued);
      done.push(performance.now() - start);
      return result;
    };
    const moco = this.#moco;
    const { queries, keys, loss, moveMomentumEncoder } = moco;
    const [scaler, watch] = [this.#scaler, this.#watch];
    const { scale, unscaleGradients } = scaler;
    const { numbers, findings } = watch;
    moco.queries = (...args) => part("queries", () => queries.apply(moco, args));
    moco.keys = (...args) => part("keys", () => keys.apply(moco, args));
    moco.loss = (...args) => part("forward", () => loss.apply(moco, args));
    moco.moveMomentumEncoder = () => part("momentum update", () => moveMomentumEncoder.call(moco));
    scaler.unscaleGradients = (optimizer) => part("unscale", () => unscaleGradients.call(scaler, optimizer));
    watch.numbers = (...args) => part("look", () => numbers.apply(watch, args));
    watch.findings = (...args) => part("send", () => findings.apply(watch, args));
    scaler.scale = (value) => {
      const scaled = scale.call(scaler, value);
      const backward = scaled.backward.bind(scaled);
      scaled.backward = (...args) => part("backward", () => backward(...args));
      return scaled;
    };
    try {
      await this.step(part);
    } finally {
      Object.assign(moco, { queries, keys, loss, moveMomentumEncoder });
      Object.assign(scaler, { scale, unscaleGradients });
      Object.assign(watch, { numbers, findings });
    }
  }

  [Symbol.dispose](): void {
    this.#optimizer.zeroGrad();
    for (const each of [this.#trainingStep, this.#watch, this.#optimizer, this.#scaler, this.#moco]) each[Symbol.dispose]();
    this.#views.forEach((view) => view.dispose());
    this.#kernels[Symbol.dispose]();
  }
}

const held: { training: Training | null } = { training: null };

async function answer(request: GpuRequest): Promise<object> {
  if (request.do === "check") return check(request);
  if (request.do === "machine") return machine();
  if (request.do === "setup") {
    drop();
    if (isGpu) torch.resetPeakDeviceMemory(device);
    const start = performance.now();
    const training = (held.training = new Training(request));
    let loss = NaN;
    for (let i = 0; i < request.warmup; i++) loss = await training.step();
    synchronize();
    return { seconds: (performance.now() - start) / 1000, loss } satisfies Ready;
  }
  if (request.do === "measure") {
    synchronize();
    const start = performance.now();
    let loss = NaN;
    for (let i = 0; i < request.steps; i++) loss = await held.training!.step();
    synchronize();
    const seconds = (performance.now() - start) / 1000 / request.steps;
    const { peakAllocated: peakBytes, peakReserved: reservedBytes } = isGpu ? torch.deviceMemory(device) : { peakAllocated: 0, peakReserved: 0 };
    return { seconds, loss, peakBytes, reservedBytes } satisfies Measured;
  }
  if (request.do === "profile") {
    const parts: Parts = {};
    for (let i = 0; i < request.steps; i++) await held.training!.profile(parts);
    const middle = (values: number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] as number;
    return Object.fromEntries(Object.entries(parts).map(([name, { queued, done }]) => [name, { queuedMs: middle(queued), doneMs: middle(done) }]));
  }
  drop();
  return {};
}

function check({ side }: Extract<GpuRequest, { do: "check" }>): { trouble?: string } {
  if (!isGpu) return {};
  if (torch.cudaDeviceCount() === 0) return { trouble: "libtorch sees no GPU here; see why with: npx moco doctor" };
  if (side === "oursGraph") {
    try {
      cudaAddon();
    } catch (error) {
      return { trouble: (error as Error).message.replaceAll("\n", " ") };
    }
  }
  return {};
}

/** The device, and TFLOP/s of a large bfloat16 product of random numbers on it: what MFU is a fraction of. */
function machine(): Machine {
  const n = isGpu ? 8192 : 256;
  const seconds = torch.scope(() => {
    const [a, b] = [0, 1].map(() => torch.randn([n, n], { device, dtype: "bfloat16" })) as [Tensor, Tensor];
    return Array.from({ length: 15 }, () => {
      synchronize();
      const start = performance.now();
      torch.scope(() => {
        for (let i = 0; i < 10; i++) a.matmul(b);
      });
      synchronize();
      return (performance.now() - start) / 10_000;
    });
  });
  const middle = seconds.sort((a, b) => a - b)[seconds.length >> 1] as number;
  const { name: gpu, memoryBytes } = isGpu ? torch.deviceProperties(device) : { name: "no GPU", memoryBytes: 0 };
  return { gpu, gpuMemoryGiB: Math.round(memoryBytes / 2 ** 30), matrixProductTflops: (2 * n ** 3) / middle / 1e12 };
}

function drop(): void {
  held.training?.[Symbol.dispose]();
  held.training = null;
  if (isGpu) torch.releaseDeviceMemory(device);
}

for await (const line of createInterface({ input: process.stdin })) {
  let result: object;
  try {
    result = await answer(JSON.parse(line) as GpuRequest);
  } catch (error) {
    if (!/out of memory/i.test((error as Error).message)) throw error;
    drop();
    result = { outOfMemory: true };
  }
  console.log(JSON.stringify(result));
}
