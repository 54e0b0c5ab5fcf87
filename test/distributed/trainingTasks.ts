// What the ranks of syncBatchNorm.test.ts and gradientAverager.test.ts do.
import { native } from "../../lib/native.js";
import { GradientAverager, synchronizeBatchNorm, type ProcessGroup } from "../../lib/distributed/index.js";
import { BatchNorm1d, BatchNorm2d, Conv2d, Linear, Module } from "../../lib/nn/index.js";
import * as torch from "../../lib/torch/index.js";
import type { DType, NestedArray, Tensor } from "../../lib/torch/index.js";

export interface NormCase {
  /** Rows of each rank's part. */
  rows: number[];
  /** The other dimensions, channels first. */
  rest: number[];
  affine: boolean;
  dtype: DType;
  channelsLast?: boolean;
  /** Size of the values' mean beside their spread. */
  offset?: number;
  noGrad?: boolean;
}

/** What one normalisation gives, as numbers: forward, backward, running statistics. */
export interface NormResult {
  output: NestedArray;
  forX: NestedArray | null;
  forWeight: NestedArray | null;
  forBias: NestedArray | null;
  mean: NestedArray;
  variance: NestedArray;
  tracked: number;
  dtype: string;
}

/** Input and gradient of the whole batch: the same on all ranks. */
function batchOf({ rows, rest, dtype, channelsLast, offset = 0 }: NormCase): { x: Tensor; gradient: Tensor } {
  torch.manualSeed(1n);
  const shape = [rows.reduce((sum, count) => sum + count, 0), ...rest];
  const make = (): Tensor => {
    const values = torch.randn(shape, { dtype: "float64" }).to(dtype);
    return channelsLast ? values.contiguous({ memoryFormat: "channels_last" }) : values;
  };
  return { x: make().add(offset), gradient: make() };
}

/** Normalises rows [from, from + count) of the batch. */
function normalize(each: NormCase, from: number, count: number, group: ProcessGroup | null): NormResult {
  const { x, gradient } = batchOf(each);
  const { rest, affine, dtype } = each;
  using norm = new (rest.length === 3 ? BatchNorm2d : BatchNorm1d)(rest[0]!, { affine, momentum: 0.3 });
  if (dtype === "float64") norm.to(dtype);
  if (affine) {
    torch.manualSeed(2n);
    torch.noGrad(() => (norm.weight!.uniform_(0.5, 2), norm.bias!.uniform_(-1, 1)));
  }
  if (group !== null) synchronizeBatchNorm(norm, group);
  const part = x.slice(0, from, from + count).detach().requiresGrad_();
  const output = each.noGrad ? torch.noGrad(() => norm.forward(part)) : norm.forward(part);
  if (!each.noGrad) output.backward(gradient.slice(0, from, from + count));
  const numbers = (tensor: Tensor | null | undefined): NestedArray | null => tensor?.to("float64").toArray() ?? null;
  return {
    output: numbers(output)!, forX: numbers(part.grad), forWeight: numbers(norm.weight?.grad), forBias: numbers(norm.bias?.grad),
    mean: numbers(norm.runningMean)!, variance: numbers(norm.runningVar)!, tracked: norm.numBatchesTracked.item(), dtype: output.dtype,
  };
}

/** The whole batch in this process alone. */
export function normalizeWhole(each: NormCase): NormResult {
  return normalize(each, 0, each.rows.reduce((sum, count) => sum + count, 0), null);
}

/** This rank's part of the batch, for several cases. */
export function normalizeParts(group: ProcessGroup, cases: NormCase[]): NormResult[] {
  return cases.map((each) => {
    const from = each.rows.slice(0, group.rank).reduce((sum, count) => sum + count, 0);
    return normalize(each, from, each.rows[group.rank]!, group);
  });
}

export function singleValues(group: ProcessGroup): unknown {
  const norm = new BatchNorm1d(3);
  synchronizeBatchNorm(norm, group);
  return norm.forward(torch.randn([1, 3])).shape;
}

/** The batches of all ranks together have one value per channel. */
export function oneValueInAll(group: ProcessGroup): unknown {
  const norm = new BatchNorm1d(3);
  synchronizeBatchNorm(norm, group);
  return norm.forward(torch.randn([group.rank === 0 ? 1 : 0, 3])).shape;
}

export function evaluationAndSecondDerivative(group: ProcessGroup): unknown {
  const norm = new BatchNorm1d(3);
  const x = torch.randn([4, 3]).requiresGrad_();
  const before = norm.eval().forward(x).toArray();
  synchronizeBatchNorm(norm, group);
  const after = norm.forward(x).toArray();
  let refusal = "";
  try {
    norm.train().forward(x).square().sum().backward(null, { createGraph: true });
  } catch (error) {
    refusal = (error as Error).message;
  }
  return { same: JSON.stringify(before) === JSON.stringify(after), refusal };
}

/** A small network with convolution, normalisation and a parameter that is used twice. */
export class SmallNet extends Module {
  readonly conv = this.child("conv", new Conv2d(3, 8, 3));
  readonly norm = this.child("norm", new BatchNorm2d(8));
  readonly head = this.child("head", new Linear(8 * 6 * 6, 16));
  readonly unused: Linear | null;
  constructor(withUnused = false) {
    super();
    this.unused = withUnused ? this.child("unused", new Linear(2, 2)) : null;
  }
  forward(x: Tensor): Tensor {
    const twice = [x, x.flip([3])].map((view) => this.head.forward(torch.relu(this.norm.forward(this.conv.forward(view))).flatten(1)));
    return twice[0]!.mul(twice[1]!).mean();
  }
}

/** Rows of the whole batch of a step. */
function imagesOf(step: number, rows: number): Tensor {
  torch.manualSeed(BigInt(100 + step));
  return torch.randn([rows, 3, 8, 8], { dtype: "float64" });
}

const gradientsOf = (net: Module): number[][] => net.parameters().map(({ grad }) => [...(grad!.data() as Float64Array)]);

/** Gradients of several steps in one process, over the whole batch. */
export function gradientsOfWhole(steps: number, rows: number): number[][][] {
  torch.manualSeed(7n);
  using net = new SmallNet().to("float64");
  return Array.from({ length: steps }, (_, step) =>
    torch.scope(() => {
      net.zeroGrad();
      net.forward(imagesOf(step, rows)).backward();
      return gradientsOf(net);
    }),
  );
}

/** The same, each rank on its part. `how`: averaged during backward, or after two halves of it. */
export function gradientsOfParts(
  group: ProcessGroup, { steps, rows, how, bucketMegabytes }: { steps: number; rows: number; how: "prepare" | "average" | "both"; bucketMegabytes: number },
): number[][][] {
  torch.manualSeed(7n);
  using net = new SmallNet().to("float64");
  synchronizeBatchNorm(net, group);
  using averager = new GradientAverager(net.parameters(), group, { bucketMegabytes });
  const mine = rows / group.size;
  const part = (step: number): Tensor => imagesOf(step, rows).slice(0, mine * group.rank, mine * (group.rank + 1));
  return Array.from({ length: steps }, (_, step) =>
    torch.scope(() => {
      net.zeroGrad();
      if (how === "both") {
        // Half of it accumulated on this rank alone, and the other half comes on top.
        net.forward(part(step)).div(2).backward();
        averager.prepare();
        net.forward(part(step)).div(2).backward();
      } else {
        if (how === "prepare") averager.prepare();
        net.forward(part(step)).backward();
        if (how === "average") averager.average();
      }
      return gradientsOf(net);
    }),
  );
}

export function unusedParameter(group: ProcessGroup): unknown {
  using net = new SmallNet(true);
  using averager = new GradientAverager(net.parameters(), group);
  averager.prepare();
  net.forward(torch.randn([2, 3, 8, 8])).backward();
  return null;
}

export function differentNetworks(group: ProcessGroup): unknown {
  using net = new Linear(4, group.rank + 2);
  using averager = new GradientAverager(net.parameters(), group);
  return averager;
}

/** Rank 1 is gone when the others come to their backward. */
export function deathInBackward(group: ProcessGroup, { withNorm }: { withNorm: boolean }): unknown {
  using net = new SmallNet();
  if (withNorm) synchronizeBatchNorm(net, group);
  using averager = new GradientAverager(net.parameters(), group);
  native.setStep(5);
  const loss = net.forward(torch.randn([2, 3, 8, 8]));
  if (group.rank === 1) process.kill(process.pid, "SIGKILL");
  if (!withNorm) averager.prepare();
  loss.backward();
  return null;
}
