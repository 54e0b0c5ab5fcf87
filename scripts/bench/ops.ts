import { peersOf } from "./peer.js";
import { describeRun, geometricMean, median, type BenchmarkOptions, type BenchmarkResult } from "./result.js";

export const smallOperators = ["add", "mm", "linear", "layerNorm", "gelu", "reshape", "transpose", "sum"] as const;

/** Nanoseconds of one call, for each operator. */
type Answer = Record<(typeof smallOperators)[number], number>;

/** The cost of one operator call on 8×8 tensors, from TypeScript against the same from Python, one thread. */
export async function benchmarkOperators(options: BenchmarkOptions): Promise<BenchmarkResult> {
  const start = peersOf("ops", "python", options);
  const ours = start.ours({ threads: 1 });
  const python = start.python({ threads: 1 });
  try {
    const rounds = { ours: [] as Answer[], python: [] as Answer[] };
    for (let round = 0; round <= options.rounds * 3; round++) {
      const pair = { ours: await ours.ask<Answer>("measure"), python: await python.ask<Answer>("measure") };
      if (round === 0) continue; // warm-up
      rounds.ours.push(pair.ours);
      rounds.python.push(pair.python);
    }
    const ratios: Record<string, number> = {};
    for (const name of smallOperators) {
      ratios[name] = median(rounds.ours.map((answer, i) => answer[name] / (rounds.python[i] as Answer)[name]));
    }
    ratios["geometricMean"] = geometricMean(smallOperators.map((name) => ratios[name] as number));
    const unit = "nanoseconds per call on 8x8 float32 tensors";
    return { ...describeRun("ops", options.python, { threads: 1, unit, calls: 20_000 }), ratios, raw: rounds };
  } finally {
    ours.close();
    python.close();
  }
}
