import { BenchmarkError, peersOf } from "./peer.js";
import { describeRun, median, type BenchmarkOptions, type BenchmarkResult } from "./result.js";

interface Recipe {
  arch: string;
  optimizer: "adamw" | "lars";
  stopGradConv1: boolean;
}

const recipes: readonly Recipe[] = [
  { arch: "vit_small", optimizer: "adamw", stopGradConv1: true },
  { arch: "resnet50", optimizer: "lars", stopGradConv1: false },
];

interface Answer {
  seconds: number;
  loss: number;
}

/**
 * A whole training step (two views, momentum update, loss, backward, optimiser) of ours against upstream's own classes, on the same libtorch
 * with the same number of threads, alternating.
 */
export async function benchmarkStep(options: BenchmarkOptions): Promise<BenchmarkResult> {
  if (!options.upstream) throw new BenchmarkError("step: give a checkout of facebookresearch/moco-v3 with --upstream DIR");
  const batch = options.quick ? 4 : 16;
  const { threads } = options;
  const start = peersOf("step", "upstream", options);
  const ratios: Record<string, number> = {};
  const raw: Record<string, unknown> = {};
  for (const recipe of recipes) {
    const settings = JSON.stringify({ ...recipe, batch, imageSize: 224, threads });
    const ours = start.ours({ args: [settings], threads });
    const upstream = start.upstream({ args: [settings, options.upstream], threads });
    try {
      const seconds = { ours: [] as number[], upstream: [] as number[] };
      for (let round = 0; round <= options.rounds; round++) {
        const mine = await ours.ask<Answer>("step");
        const theirs = await upstream.ask<Answer>("step");
        process.stderr.write(`${recipe.arch} ${round}: ours ${mine.seconds.toFixed(3)} s, upstream ${theirs.seconds.toFixed(3)} s\n`);
        if (round === 0) continue; // warm-up
        seconds.ours.push(mine.seconds);
        seconds.upstream.push(theirs.seconds);
      }
      const peakBytes = { ours: ours.peakMemory(), upstream: upstream.peakMemory() };
      ratios[`${recipe.arch}Time`] = median(seconds.ours.map((each, i) => each / (seconds.upstream[i] as number)));
      ratios[`${recipe.arch}PeakMemory`] = peakBytes.ours / peakBytes.upstream;
      raw[recipe.arch] = { seconds, peakBytes };
    } finally {
      ours.close();
      upstream.close();
    }
  }
  return { ...describeRun("step", options.python, { batch, imageSize: 224, threads, recipes }), ratios, raw };
}
