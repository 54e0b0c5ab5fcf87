import { interleave } from "./interleave.js";
import { peersOf } from "./peer.js";
import { describeRun, type BenchmarkOptions, type BenchmarkResult } from "./result.js";
import { geometricMean, pairedRatio } from "./spread.js";

export const smallOperators = ["add", "mm", "linear", "layerNorm", "gelu", "reshape", "transpose", "sum"] as const;

/** Nanoseconds of one call, for each operator. */
type Answer = Record<(typeof smallOperators)[number], number>;

/** The cost of one operator call on 8×8 tensors, from TypeScript against the same from Python, one thread. */
export async function benchmarkOperators(options: BenchmarkOptions): Promise<BenchmarkResult> {
  const start = peersOf("ops", "python", options);
  const peers = { ours: start.ours({ threads: 1 }), python: start.python({ threads: 1 }) };
  try {
    const rounds = await interleave(["ours", "python"], { rounds: 3 * options.rounds }, (side) => peers[side].ask<Answer>("measure"));
    const times = (side: "ours" | "python", name: keyof Answer): number[] => rounds[side].map((answer) => answer[name]);
    const ratios: Record<string, number> = {};
    for (const name of smallOperators) ratios[name] = pairedRatio(times("ours", name), times("python", name));
    ratios["geometricMean"] = geometricMean(smallOperators.map((name) => ratios[name] as number));
    const unit = "nanoseconds per call on 8x8 float32 tensors";
    return { ...describeRun("ops", options.python, { threads: 1, unit, calls: 20_000 }), ratios, raw: rounds };
  } finally {
    peers.ours.close();
    peers.python.close();
  }
}
