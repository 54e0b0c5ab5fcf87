import { existsSync, mkdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, resolve } from "node:path";
import { viewRecipes } from "../../lib/data/index.js";
import { hasNvidiaDriver } from "../../lib/setup/nvidiaDriver.js";
import { gpuFacts } from "../../lib/train/planning/machine.js";
import { interleave } from "./interleave.js";
import { withMeasuredFolder } from "./measuredFolder.js";
import { BenchmarkError, peersOf, type Peer } from "./peer.js";
import { makePhotographs } from "./photographs.js";
import { recipeOf, type StepsAnswer, type StepsRequest, type TrainingSettings } from "./pretrainingProtocol.js";
import { say } from "./progress.js";
import { describeRun, type BenchmarkOptions, type BenchmarkResult } from "./result.js";
import { pairedRatio } from "./spread.js";

interface Extent {
  files: number;
  trainings: readonly Training[];
}

interface Training {
  arch: string;
  batch: number;
  imageSize: number;
  mlpDim: number;
  /** Of one measurement. */
  steps: number;
  /** Taken before each measurement from photographs, so that what was loaded during a pause is used up. */
  before: number;
}

const FULL: Extent = {
  files: 256,
  trainings: [
    { arch: "vit_small", batch: 16, imageSize: 224, mlpDim: 4096, steps: 2, before: 0 },
    { arch: "resnet18", batch: 16, imageSize: 224, mlpDim: 4096, steps: 4, before: 2 },
  ],
};
const ON_GPU: Extent = {
  files: 2560,
  trainings: [
    { arch: "vit_small", batch: 256, imageSize: 224, mlpDim: 4096, steps: 32, before: 12 },
    { arch: "vit_base", batch: 128, imageSize: 224, mlpDim: 4096, steps: 32, before: 12 },
  ],
};
const QUICK: Extent = { files: 16, trainings: [{ arch: "resnet18", batch: 4, imageSize: 64, mlpDim: 64, steps: 2, before: 1 }] };

type Side = "ours" | "upstream";
type Views = StepsRequest["views"];

/** What was measured of a training: seconds of a step, of both sides from both kinds of views, and the peaks of memory. */
export interface EndToEndTraining {
  batch: number;
  seconds: Partial<Record<Side, Record<Views, number[]>>>;
  peakBytes: Partial<Record<Side, number>>;
}

const MEANINGS: Record<string, string> = {
  KeptImagesPerSecond: "x the images/s of the same loop on synthetic views",
  KeptImagesPerSecondUpstream: "x: the same for upstream's program",
  ImagesPerSecond: "x upstream's images/s from the same JPEGs",
  PeakMemory: "x upstream's peak memory, on the CPU with the processes that load",
};

/**
 * From JPEG files to the trained step: the loop of `moco pretrain` on photographs, beside the same loop on views that are there already, step by step in
 * turn in one training; and upstream's data set, loader and step in the same way, where there is a checkout. `--device cuda` measures on a GPU.
 */
export async function benchmarkEndToEnd(options: BenchmarkOptions): Promise<BenchmarkResult> {
  const { threads, rounds, device = "cpu", quick } = options;
  const isGpu = device.startsWith("cuda");
  if (isGpu && !hasNvidiaDriver()) throw new BenchmarkError(`end2end: there is no driver for --device ${device} here; see what is missing with: npx moco doctor`);
  const upstream = options.upstream === undefined ? null : resolve(options.upstream);
  if (upstream !== null && !existsSync(join(upstream, "moco", "loader.py"))) {
    throw new BenchmarkError(`end2end: ${upstream} has no moco/loader.py; give a checkout of facebookresearch/moco-v3 to --upstream, or none`);
  }
  const extent = quick ? QUICK : isGpu ? ON_GPU : FULL;
  const trainings = extent.trainings.filter(({ arch }) => options.only === undefined || options.only.split(",").includes(arch));
  if (trainings.length === 0) throw new BenchmarkError(`end2end: --only ${options.only}: give some of ${extent.trainings.map(({ arch }) => arch).join(", ")}`);
  const workers = availableParallelism();
  const start = peersOf("end2end", "upstream", options, "pretraining");
  const ratios: Record<string, number> = {};
  const raw: Record<string, EndToEndTraining> = {};
  await withMeasuredFolder(options, async (folder) => {
    mkdirSync(join(folder, "photographs", "all"), { recursive: true });
    await makePhotographs(join(folder, "photographs", "all"), extent.files);
    for (const { steps, before, ...training } of trainings) {
      const { arch } = training;
      const settings: TrainingSettings = {
        ...recipeOf(arch), ...training, device, precision: isGpu ? (arch.startsWith("vit") ? "bf16" : "fp16") : "fp32", threads, workers,
        folder: join(folder, "photographs"),
      };
      const words = JSON.stringify(settings);
      const peers: Partial<Record<Side, Peer>> = { ours: start.ours({ args: [words, join(folder, `run-${arch}`)], threads }) };
      if (upstream !== null) peers.upstream = start.upstream({ args: [words, JSON.stringify(viewRecipes()), upstream], threads });
      try {
        raw[arch] = { batch: training.batch, ...(await measure(arch, peers, { steps, before, rounds })) };
      } finally {
        for (const peer of Object.values(peers)) peer.close();
      }
      Object.assign(ratios, ratiosOf(arch, raw[arch]));
    }
  });
  const meanings = Object.fromEntries(Object.keys(ratios).map((key) => [key, MEANINGS[key.replace(/^[a-z0-9_]+/, "")]!]));
  const settings = {
    files: `${extent.files} JPEGs of 500 x 375 pixels, quality 90, again and again`, pageCache: "warm", device, threads, workers, rounds, trainings,
    peer: upstream === null ? null : "upstream's data set, loader and classes",
  };
  const described = describeRun(isGpu ? "end2end-gpu" : "end2end", options.python, settings);
  const facts = isGpu ? gpuFacts(Number(device.split(":")[1] ?? 0)) : null;
  const card = facts && { gpu: facts.name, gpuMemoryGiB: Math.round(facts.memoryBytes / 2 ** 30) };
  return { ...described, machine: { ...described.machine, ...card }, ratios, meanings, raw: { ...raw } };
}

async function measure(
  arch: string, peers: Partial<Record<Side, Peer>>, { steps, before, rounds }: Pick<Training, "steps" | "before"> & { rounds: number },
): Promise<Omit<EndToEndTraining, "batch">> {
  const sides = Object.keys(peers) as Side[];
  const kinds = sides.flatMap((side) => (["photographs", "synthetic"] as const).map((views) => `${side} ${views}` as const));
  const answers = await interleave(kinds, { rounds }, async (kind, round) => {
    const [side, views] = kind.split(" ") as [Side, Views];
    const ask = (count: number): Promise<StepsAnswer> => peers[side]!.ask(JSON.stringify({ views, steps: count } satisfies StepsRequest));
    if (views === "photographs" && before > 0) await ask(before);
    const answer = await ask(steps);
    say(`${arch} ${round || "warm-up"}, ${kind}: ${answer.seconds.toFixed(3)} s a step, loss ${answer.loss.toFixed(3)}`);
    return answer;
  });
  const seconds = (side: Side, views: Views): number[] => answers[`${side} ${views}`].map((answer) => answer.seconds);
  const each = <T>(make: (side: Side) => T): Partial<Record<Side, T>> => Object.fromEntries(sides.map((side) => [side, make(side)]));
  return {
    seconds: each((side) => ({ photographs: seconds(side, "photographs"), synthetic: seconds(side, "synthetic") })),
    peakBytes: each((side) => Math.max(...answers[`${side} photographs`].map((answer) => answer.peakBytes))),
  };
}

/** A rate is what a time is the inverse of, so ours over theirs in images per second is their time over ours. */
function ratiosOf(arch: string, { seconds: { ours, upstream }, peakBytes }: EndToEndTraining): Record<string, number> {
  return {
    [`${arch}KeptImagesPerSecond`]: pairedRatio(ours!.synthetic, ours!.photographs),
    ...(upstream && {
      [`${arch}KeptImagesPerSecondUpstream`]: pairedRatio(upstream.synthetic, upstream.photographs),
      [`${arch}ImagesPerSecond`]: pairedRatio(upstream.photographs, ours!.photographs),
      [`${arch}PeakMemory`]: peakBytes.ours! / peakBytes.upstream!,
    }),
  };
}
