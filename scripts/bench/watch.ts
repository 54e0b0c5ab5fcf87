import { createMoCo, type MoCo } from "../../lib/moco/index.js";
import { AdamW, GradScaler, LARS, type Optimizer } from "../../lib/optim/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { FiniteGuard } from "../../lib/train/runs/finiteGuard.js";
import { roundSignals } from "../../lib/train/stability/roundSignals.js";
import { SignalReader } from "../../lib/train/stability/signalReader.js";
import { SpikeDetector } from "../../lib/train/stability/spikeDetector.js";
import { TroubleFinder } from "../../lib/train/stability/troubles.js";
import { interleave } from "./interleave.js";
import { say } from "./progress.js";
import { describeRun, median, type BenchmarkOptions, type BenchmarkResult } from "./result.js";
import { pairedRatio } from "./spread.js";

interface Setup {
  arch: string;
  batch: number;
}

const setups: readonly Setup[] = [
  { arch: "vit_small", batch: 16 },
  { arch: "vit_small", batch: 32 },
  { arch: "resnet50", batch: 16 },
  { arch: "resnet50", batch: 32 },
];
const quickSetups: readonly Setup[] = [{ arch: "resnet18", batch: 4 }];

/** Distances between the encoders are measured in every tenth step. */
const DISTANCE_EVERY = 10;
/** Calls over which the parts are timed by themselves. */
const REPEATS = 20;

/**
 * What watching costs of a training step on the CPU, ViT and ResNet.
 *
 * Two ways, as a step takes seconds and watching milliseconds: whole steps with and without, alternating; and the watching's own parts timed
 * within a step (statistics of the contrasts, norms of the layers, distance, judging), over the median step. The ratios of the
 * second are what the limit of 0.5 % is for; the first shows, as far as the machine's noise lets it, that nothing was forgotten.
 */
export async function benchmarkWatch(options: BenchmarkOptions): Promise<BenchmarkResult> {
  torch.retainFreedMemory();
  torch.setNumThreads(options.threads);
  const ratios: Record<string, number> = {};
  const raw: Record<string, unknown> = {};
  const meanings: Record<string, string> = {};
  for (const setup of options.quick ? quickSetups : setups) {
    const name = `${setup.arch}Batch${setup.batch}`;
    const measured = await measure(setup, options.rounds);
    const step = median(measured.seconds.without);
    const { watching, distance, remembering } = measured.parts;
    ratios[`${name}Share`] = (watching + distance / DISTANCE_EVERY) / step;
    ratios[`${name}RememberShare`] = remembering / step;
    ratios[`${name}Time`] = pairedRatio(measured.seconds.with, measured.seconds.without);
    meanings[`${name}Share`] = "of a step, for the signals";
    meanings[`${name}RememberShare`] = "of a step, for the copy of the momentum encoder that a refused step is put back from";
    meanings[`${name}Time`] = "x the step without";
    raw[name] = measured;
    say(`${name}: ${JSON.stringify(ratios)}`);
    await new Promise(setImmediate);
  }
  return { ...describeRun("watch", null, { imageSize: 224, threads: options.threads, rounds: options.rounds }), ratios, meanings, raw };
}

interface Measured {
  seconds: { with: number[]; without: number[] };
  parts: { watching: number; distance: number; remembering: number };
  operators: { step: number; watching: number; distance: number };
}

/** Seconds of steps and of the parts of watching, and how many operators it calls. */
async function measure({ arch, batch }: Setup, rounds: number): Promise<Measured> {
  torch.manualSeed(0);
  const isVit = arch.startsWith("vit");
  const temperature = isVit ? 0.2 : 1;
  using moco = createMoCo({ encoder: arch, stopGradConv1: true, temperature });
  using optimizer: Optimizer = isVit ? new AdamW(moco.parameters(), { lr: 1e-4, weightDecay: 0.1 }) : new LARS(moco.parameters(), { lr: 0.1, weightDecay: 1e-6 });
  using scaler = new GradScaler();
  using guard = new FiniteGuard(moco, scaler, { precision: "fp32", warmupEpochs: 0, temperature, weightDecay: 0.1 });
  const views = torch.scope(() => [0, 1].map(() => torch.keep(torch.randn([batch, 3, 224, 224])))) as [Tensor, Tensor];
  const watch = new Watching(moco, batch, temperature);
  let number = 0;
  const step = (watched: boolean): number => {
    const start = performance.now();
    torch.scope(() => {
      guard.remember();
      moco.observer = watched ? watch.observer : null;
      const output = moco.forward(...views, 0.99);
      output.backward();
      const found = guard.judge(guard.look(output, watched ? [...watch.reader.contrast(), ...watch.reader.distance(number)] : []), { step: number, epoch: 0, stepInEpoch: 0, lr: 1e-4 });
      if (watched) watch.judge(found);
      number++;
      optimizer.step();
      optimizer.zeroGrad();
    });
    return (performance.now() - start) / 1000;
  };
  try {
    const seconds = await interleave(["with", "without"], { rounds }, (side) => step(side === "with"));
    return { seconds, ...watch.parts(guard, views, batch, step) };
  } finally {
    watch.dispose();
    for (const view of views) view.dispose();
  }
}

/** What `pretrain` does to watch a step. */
class Watching {
  readonly reader: SignalReader;
  readonly observer: MoCo["observer"];
  readonly #detector = new SpikeDetector(10);
  readonly #troubles: TroubleFinder;

  constructor(private readonly moco: MoCo, batchSize: number, temperature: number) {
    this.reader = new SignalReader(moco);
    this.observer = moco.observer;
    this.#troubles = new TroubleFinder(moco, { warmupEpochs: 0, batchSize, temperature, m: 0.99 });
  }

  judge(found: Parameters<SignalReader["read"]>[0]): string {
    const signals = this.reader.read(found);
    const spikes = this.#detector.look(found.gradientNorm, signals.gradients);
    const troubles = this.#troubles.find(signals, spikes, 1e-4);
    return JSON.stringify(roundSignals({ ...signals, alerts: troubles.map(({ alert }) => alert) }));
  }

  /** The parts by themselves, with gradients and features as in a step. */
  parts(guard: FiniteGuard, views: readonly [Tensor, Tensor], batch: number, step: (watched: boolean) => number): Omit<Measured, "seconds"> {
    const { reader, moco } = this;
    const dim = 256;
    const place = { step: 0, epoch: 0, stepInEpoch: 0, lr: 1e-4 };
    return torch.scope(() => {
      const features = torch.randn([batch, dim]);
      const unit = features.div(torch.linalgVectorNorm(features, 2, [1], true));
      const labels = torch.arange(0, batch, { dtype: "int64" });
      const contrast = { queries: unit, keys: unit, logits: unit.matmul(unit.t()), labels, loss: torch.ones([]), rank: 0 };
      moco.observer = null;
      moco.forward(...views, 0.99).backward();
      const output = torch.ones([]);
      const plain = (): void => torch.scope(() => void guard.judge(guard.look(output), place));
      const watched = (number: number) => (): void => torch.scope(() => {
        for (let term = 0; term < 2; term++) this.observer!(contrast);
        this.judge(guard.judge(guard.look(output, [...reader.contrast(), ...reader.distance(number)]), place));
      });
      const [without, withSignals, withDistance] = interleaved([plain, watched(1), watched(0)]) as [number, number, number];
      const [remembering] = interleaved([() => guard.remember()]) as [number];
      const count = (fn: () => void): number => {
        let calls = 0;
        torch.observeOperators(() => void calls++, fn);
        return calls;
      };
      const operators = { watching: count(watched(1)) - count(plain), distance: count(watched(0)) - count(watched(1)) };
      moco.zeroGrad();
      const parts = { watching: withSignals - without, distance: withDistance - withSignals, remembering };
      return { parts, operators: { step: count(() => void step(false)), ...operators } };
    });
  }

  dispose(): void {
    this.reader.dispose();
  }
}

/** Median seconds of each function, called in turns. */
function interleaved(functions: readonly (() => void)[]): number[] {
  const seconds = functions.map(() => [] as number[]);
  for (let i = 0; i <= REPEATS; i++) {
    functions.forEach((fn, k) => {
      const start = performance.now();
      fn();
      if (i > 0) seconds[k]!.push((performance.now() - start) / 1000);
    });
  }
  return seconds.map(median);
}
