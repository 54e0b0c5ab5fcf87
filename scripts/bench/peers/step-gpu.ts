// Our side of the step benchmark on a GPU: one request for each line of input, one line of JSON in answer.
import { createInterface } from "node:readline";
import { createMoCo, type MoCo } from "../../../lib/moco/index.js";
import { AdamW, GradScaler, LARS, type Optimizer } from "../../../lib/optim/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { FiniteGuard } from "../../../lib/train/runs/finiteGuard.js";
import { cudaRecorder, StepGraph } from "../../../lib/train/runs/stepGraph.js";
import { chooseKernels } from "../../../lib/train/kernels.js";
import { createAutocast } from "../../../lib/train/options.js";
import type { GpuRequest, GpuSetup } from "../stepGpu.js";

const device = "cuda:0";
const stream = torch.currentStream(device);

/** Milliseconds of a part of a step: until it is queued, and until it is done. */
type Parts = Record<string, { queued: number[]; done: number[] }>;

/** `pretrain`'s step on synthetic views. */
class Training {
  readonly #moco: MoCo;
  readonly #optimizer: Optimizer;
  readonly #scaler: GradScaler;
  readonly #guard: FiniteGuard;
  readonly #autocast: <T>(fn: () => T) => T;
  readonly #views: [Tensor, Tensor];
  readonly #kernels: Disposable;
  readonly #graph: StepGraph<[Tensor, Tensor]>;
  #steps = 0;

  constructor({ arch, batch, imageSize, optimizer, stop_grad: stopGradConv1, precision, deterministic, graph, flags }: GpuSetup) {
    this.#kernels = chooseKernels({ device, deterministic });
    torch.setBackendFlags(flags);
    torch.manualSeed(0);
    const temperature = arch.startsWith("vit") ? 0.2 : 1;
    this.#moco = createMoCo({ encoder: arch, imageSize, stopGradConv1, temperature }).to(device).train();
    const parameters = this.#moco.parameters();
    this.#optimizer =
      optimizer === "adamw" ? new AdamW(parameters, { lr: 1e-4, weightDecay: 0.1 }) : new LARS(parameters, { lr: 0.1, weightDecay: 1e-6 });
    this.#scaler = new GradScaler({ enabled: precision === "fp16", device });
    this.#guard = new FiniteGuard(this.#moco, this.#scaler, { precision, warmupEpochs: 0, temperature, weightDecay: 0.1 });
    this.#autocast = createAutocast({ precision, device });
    const onFallback = (reason: string): never => {
      throw new Error(`the step cannot be recorded: ${reason}`);
    };
    this.#graph = new StepGraph(parameters, { recorder: graph ? cudaRecorder(device) : null, onFallback });
    this.#views = torch.scope(() => [0, 1].map(() => torch.keep(torch.randn([batch, 3, imageSize, imageSize], { device })))) as [Tensor, Tensor];
  }

  step(): number {
    return torch.scope(() => {
      this.#moco.updateMomentumEncoder(0.99);
      const measured = this.#graph.run(this.#views, ([x1, x2]) => {
        this.#guard.remember();
        const output = this.#autocast(() => this.#moco.forward(x1, x2, 1));
        this.#scaler.scale(output).backward();
        this.#scaler.unscale_(this.#optimizer);
        return this.#guard.measure(output);
      });
      this.#scaler.markUnscaled(this.#optimizer);
      const { loss } = this.#guard.judge(this.#guard.send(measured), { step: this.#steps++, epoch: 0, stepInEpoch: 0, lr: 1e-4 });
      this.#scaler.step(this.#optimizer);
      this.#scaler.update();
      this.#optimizer.zeroGrad();
      return loss;
    });
  }

  /** The parts of a step one by one, the device idle in between. */
  profile(parts: Parts): void {
    const part = <T>(name: string, fn: () => T): T => {
      stream.synchronize();
      const start = performance.now();
      const result = fn();
      const queued = performance.now() - start;
      stream.synchronize();
      const { queued: allQueued, done } = (parts[name] ??= { queued: [], done: [] });
      allQueued.push(queued);
      done.push(performance.now() - start);
      return result;
    };
    torch.scope(() => {
      part("remember", () => this.#guard.remember());
      const moco = this.#moco;
      const { queries, keys, updateMomentumEncoder } = moco;
      moco.queries = (...args) => part("queries", () => queries.apply(moco, args));
      moco.keys = (...args) => part("keys", () => keys.apply(moco, args));
      moco.updateMomentumEncoder = (m) => part("momentum update", () => updateMomentumEncoder.call(moco, m));
      const output = part("forward", () => this.#autocast(() => moco.forward(...this.#views, 0.99)));
      Object.assign(moco, { queries, keys, updateMomentumEncoder });
      part("backward", () => this.#scaler.scale(output).backward());
      part("unscale", () => this.#scaler.unscale_(this.#optimizer));
      part("check", () => this.#guard.check(output, { step: this.#steps++, epoch: 0, stepInEpoch: 0, lr: 1e-4 }));
      part("optimizer", () => this.#scaler.step(this.#optimizer));
      this.#scaler.update();
      part("zero gradients", () => this.#optimizer.zeroGrad());
    });
  }

  dispose(): void {
    this.#optimizer.zeroGrad();
    for (const each of [this.#graph, this.#optimizer, this.#scaler, this.#guard, this.#moco, ...this.#views]) each.dispose();
    this.#kernels[Symbol.dispose]();
  }
}

const held: { training: Training | null } = { training: null };

function answer(request: GpuRequest): object {
  if (request.do === "setup") {
    torch.resetPeakDeviceMemory(device);
    const start = performance.now();
    const training = (held.training = new Training(request));
    let loss = NaN;
    for (let i = 0; i < request.warmup; i++) loss = training.step();
    stream.synchronize();
    return { seconds: (performance.now() - start) / 1000, loss };
  }
  if (request.do === "measure") {
    stream.synchronize();
    const start = performance.now();
    let loss = NaN;
    for (let i = 0; i < request.steps; i++) loss = held.training!.step();
    stream.synchronize();
    const seconds = (performance.now() - start) / 1000 / request.steps;
    const { peakAllocated: peakBytes, peakReserved: reservedBytes } = torch.deviceMemory(device);
    return { seconds, loss, peakBytes, reservedBytes };
  }
  if (request.do === "profile") {
    const parts: Parts = {};
    for (let i = 0; i < request.steps; i++) held.training!.profile(parts);
    const middle = (values: number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] as number;
    return Object.fromEntries(Object.entries(parts).map(([name, { queued, done }]) => [name, { queuedMs: middle(queued), doneMs: middle(done) }]));
  }
  drop();
  return {};
}

function drop(): void {
  held.training?.dispose();
  held.training = null;
  torch.releaseDeviceMemory(device);
}

for await (const line of createInterface({ input: process.stdin })) {
  let result: object;
  try {
    result = answer(JSON.parse(line) as GpuRequest);
  } catch (error) {
    if (!/out of memory/i.test((error as Error).message)) throw error;
    drop();
    result = { outOfMemory: true };
  }
  console.log(JSON.stringify(result));
}
