/**
 * What a function with a backward in TypeScript costs beside the operator that it calls, and what a backward pass costs that runs in another
 * thread, as on a GPU. Prints microseconds, medians: `node dist/scripts/bench/functionCost.js`.
 */
import { native } from "../../lib/native.js";
import * as torch from "../../lib/torch/index.js";
import type { FunctionContext, Tensor } from "../../lib/torch/index.js";

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

/** Median of the times of `part` in runs of `work`, which calls it once. */
function medianMicroseconds(work: (timed: (part: () => void) => void) => void, runs: number): number {
  const times: number[] = [];
  for (let i = 0; i < runs * 1.5; i++) {
    torch.scope(() => work((part) => {
      const start = process.hrtime.bigint();
      part();
      times.push(Number(process.hrtime.bigint() - start) / 1000);
    }));
  }
  const warm = times.slice(-runs).sort((a, b) => a - b);
  return Number(warm[runs >> 1]!.toFixed(1));
}

torch.setNumThreads(1);
const w = torch.ones([4, 4]).requiresGrad_();
const chain = (fn: (x: Tensor) => Tensor, length: number): Tensor => Array.from({ length }).reduce<Tensor>((y) => fn(y), w);
const forward = (fn: (x: Tensor) => Tensor): number => medianMicroseconds((timed) => timed(() => void fn(w)), 5000);
const backward = (fn: (x: Tensor) => Tensor, length: number): number => medianMicroseconds((timed) => {
  const loss = chain(fn, length).sum();
  timed(() => loss.backward());
}, 2000);
const operator = (x: Tensor): Tensor => x.mul(x);

const passes = (): Record<string, number> => ({
  operator1: backward(operator, 1), operator20: backward(operator, 20), function1: backward(square, 1), function20: backward(square, 20),
});
const result: Record<string, unknown> = { forward: { operator: forward(operator), function: forward(square), unrecorded: torch.noGrad(() => forward(square)) } };
result.backward = passes();
native.runBackwardElsewhere(true);
result.backwardElsewhere = passes();
console.log(JSON.stringify(result));
