import { interleave } from "./interleave.js";
import { BenchmarkError, peersOf, type Peer } from "./peer.js";
import { gflopPerImage, recipeOf, type StepsAnswer, type StepsRequest, type TrainingSettings } from "./pretrainingProtocol.js";
import { say } from "./progress.js";
import { describeRun, type BenchmarkOptions, type BenchmarkResult } from "./result.js";
import { median, pairedRatio } from "./spread.js";

const networks = ["vit_small", "resnet50", "vit_conv_small"] as const;

type Side = "ours" | "upstream" | "tuned" | "compiled";

const MEANINGS: Record<string, string> = {
  Time: "x upstream's time of a step",
  PeakMemory: "x upstream's peak memory",
  TimeOverTuned: "x the time of the same recipe written for speed in PyTorch",
  PeakMemoryOverTuned: "x that one's peak memory",
  TimeOverCompiled: "x that one's time with torch.compile",
  PeakMemoryOverCompiled: "x that one's peak memory with torch.compile",
  Mfu: "of the FLOP/s of the faster library's matrix product",
};

/**
 * A whole training step on the CPU in float32, with synthetic views: the loop of `moco pretrain` with all that belongs to it, against upstream's own
 * classes, and against the same recipe written for speed in PyTorch, eager and compiled. All on the same libtorch with the same number of threads, in turn.
 */
export async function benchmarkStep(options: BenchmarkOptions): Promise<BenchmarkResult> {
  const { upstream, threads, rounds } = options;
  if (upstream === undefined) throw new BenchmarkError("step: give a checkout of facebookresearch/moco-v3 with --upstream DIR");
  const [batch, imageSize] = options.quick ? [4, 64] : [16, 224];
  const chosen = chosenNetworks(options);
  const ratios: Record<string, number> = {};
  const meanings: Record<string, string> = {};
  const raw: Record<string, unknown> = {};
  const start = peersOf("step", "python", options, "pretraining");
  let matrixProductTflops: Record<string, number> | null = null;
  for (const arch of chosen) {
    const settings: TrainingSettings = {
      ...recipeOf(arch), batch, imageSize: arch.startsWith("vit") ? 224 : imageSize, mlpDim: 4096, device: "cpu", precision: "fp32", threads, workers: 1,
      folder: null,
    };
    const python = (side: Side): Peer => start.python({ args: [side, JSON.stringify(settings), upstream], threads });
    const peers: Partial<Record<Side, Peer>> = { ours: start.ours({ args: [JSON.stringify(settings)], threads }), upstream: python("upstream"), tuned: python("tuned") };
    if (options.compile !== false) peers.compiled = python("compiled");
    const sides = Object.keys(peers) as Side[];
    try {
      if (matrixProductTflops === null) {
        matrixProductTflops = await peers.tuned!.ask<Record<string, number>>(JSON.stringify({ product: true }));
        const each = Object.entries(matrixProductTflops).map(([library, tflops]) => `${library} ${(1000 * tflops).toFixed(0)}`);
        say(`float32 matrix product, GFLOP/s: ${each.join(", ")}`);
      }
      const request: StepsRequest = { views: "synthetic", steps: 1 };
      const answers = await interleave(sides, { rounds }, async (side, round) => {
        const answer = await peers[side]!.ask<StepsAnswer>(JSON.stringify(request));
        say(`${arch} ${round || "warm-up"}, ${side}: ${answer.seconds.toFixed(3)} s, ${(answer.peakBytes / 1e9).toFixed(2)} GB`);
        return answer;
      });
      const seconds = (side: Side): number[] => answers[side].map((answer) => answer.seconds);
      const peak = (side: Side): number => answers[side].at(-1)!.peakBytes;
      const note = (kind: keyof typeof MEANINGS, value: number): void => {
        ratios[`${arch}${kind}`] = value;
        meanings[`${arch}${kind}`] = MEANINGS[kind]!;
      };
      for (const [side, suffix] of [["upstream", ""], ["tuned", "OverTuned"], ["compiled", "OverCompiled"]] as const) {
        if (!sides.includes(side)) continue;
        note(`Time${suffix}`, pairedRatio(seconds("ours"), seconds(side)));
        note(`PeakMemory${suffix}`, peak("ours") / peak(side));
      }
      const gflop = gflopPerImage[arch];
      if (gflop !== undefined && settings.imageSize === 224) note("Mfu", (batch * gflop) / 1000 / median(seconds("ours")) / Math.max(...Object.values(matrixProductTflops)));
      const each = <T>(make: (side: Side) => T): Record<string, T> => Object.fromEntries(sides.map((side) => [side, make(side)]));
      raw[arch] = { seconds: each(seconds), peakBytes: each(peak) };
    } finally {
      for (const side of sides) peers[side]!.close();
    }
  }
  const described = describeRun("step", options.python, { batch, imageSize, threads, rounds, recipes: chosen.map(recipeOf), gflopPerImage });
  return { ...described, machine: { ...described.machine, matrixProductTflops: matrixProductTflops ?? {} }, ratios, meanings, raw };
}

function chosenNetworks({ only, quick }: BenchmarkOptions): readonly string[] {
  if (only !== undefined) return only.split(",");
  return quick ? ["resnet18"] : networks;
}
