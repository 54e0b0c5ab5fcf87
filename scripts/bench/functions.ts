import { native } from "../../lib/native.js";
import * as torch from "../../lib/torch/index.js";
import type { FunctionContext, Tensor } from "../../lib/torch/index.js";
import { interleave } from "./interleave.js";
import { describeRun, median, type BenchmarkOptions, type BenchmarkResult } from "./result.js";
import { pairedRatio } from "./spread.js";

/** The operator x·x; a function in TypeScript that does the same; and that one with its backward pass in another thread, as on a GPU. */
export const functionSides = ["operator", "function", "elsewhere"] as const;

/** Microseconds: of a call, and of a backward pass through one and through twenty of them. */
export interface FunctionTimes {
  forward: number;
  backward1: number;
  backward20: number;
}

const CALLS = 3000;
const PASSES = 1000;

const square = torch.customFunction({
  name: "square",
  forward(context: FunctionContext<[x: Tensor]>, x: Tensor) {
    context.saveForBackward(x);
    return x.mul(x);
  },
  backward(context, gradient) {
    const [x] = context.saved;
    return [gradient.mul(x).mul(2)];
  },
});

/** What a function with a backward in TypeScript costs beside the operator that it calls, on 4 × 4 numbers and one thread. */
export async function benchmarkFunctions(options: BenchmarkOptions): Promise<BenchmarkResult> {
  torch.setNumThreads(1);
  using w = torch.ones([4, 4]).requiresGrad_();
  const share = options.quick ? 0.05 : 1;
  const rounds = await interleave(functionSides, { rounds: options.rounds }, (side) => {
    const usual = native.runBackwardElsewhere(side === "elsewhere");
    try {
      return measure(side === "operator" ? (x) => x.mul(x) : square, w, share);
    } finally {
      native.runBackwardElsewhere(usual);
    }
  });
  const ratios = Object.fromEntries((["forward", "backward1", "backward20"] as const).map((what) =>
    [what, pairedRatio(rounds.function.map((each) => each[what]), rounds.operator.map((each) => each[what]))]));
  const unit = "microseconds, medians of a round, on 4x4 float32 tensors";
  return { ...describeRun("functions", null, { threads: 1, unit, calls: CALLS, passes: PASSES }), ratios, raw: rounds };
}

function measure(fn: (x: Tensor) => Tensor, w: Tensor, share: number): FunctionTimes {
  const forward = medianMicroseconds(CALLS * share, (timed) => timed(() => void fn(w)));
  const backward = (length: number): number => medianMicroseconds(PASSES * share, (timed) => {
    let y = w;
    for (let i = 0; i < length; i++) y = fn(y);
    const loss = y.sum();
    timed(() => loss.backward());
  });
  const times = { forward, backward1: backward(1), backward20: backward(20) };
  w.grad = null;
  return times;
}

/** Median of the times of the part that `work` has timed. */
function medianMicroseconds(runs: number, work: (timed: (part: () => void) => void) => void): number {
  const times: number[] = [];
  for (let i = 0; i < runs; i++) {
    torch.scope(() => work((part) => {
      const start = process.hrtime.bigint();
      part();
      times.push(Number(process.hrtime.bigint() - start) / 1000);
    }));
  }
  return median(times);
}
