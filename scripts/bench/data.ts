import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, resolve } from "node:path";
import { megabytes } from "../../lib/cli/megabytes.js";
import { viewRecipes } from "../../lib/data/index.js";
import type { DataRequest, DataSettings, FilesAnswer, LoadAnswer, TrainAnswer, Training } from "./dataProtocol.js";
import {
  flatness, mediansOf, perCpuSecond, perSecond, stageNames, stageRatios, thinned, throughputRatios, type Rounds, type Side,
} from "./dataRatios.js";
import { interleave } from "./interleave.js";
import { withMeasuredFolder } from "./measuredFolder.js";
import { BenchmarkError, coreForOne, peersOf, type Peer } from "./peer.js";
import { originalPhotographs } from "./photographs.js";
import { say } from "./progress.js";
import { describeRun, median, type BenchmarkOptions, type BenchmarkResult } from "./result.js";

interface Extent {
  files: number;
  /** Images of one measurement on one core, and of the watch on memory on all of them. */
  images: { ours: number; python: number };
  watched: { ours: number; python: number };
  trainings: readonly Omit<Training, "threads">[];
}

const FULL: Extent = {
  files: 256,
  images: { ours: 1024, python: 256 },
  watched: { ours: 16384, python: 2048 },
  trainings: [
    { encoder: "vit_small", imageSize: 224, batchSize: 16, mlpDim: 4096, steps: 7 },
    { encoder: "resnet18", imageSize: 224, batchSize: 16, mlpDim: 4096, steps: 13 },
  ],
};
const QUICK: Extent = {
  files: 32,
  images: { ours: 64, python: 32 },
  watched: { ours: 256, python: 256 },
  trainings: [{ encoder: "resnet18", imageSize: 64, batchSize: 8, mlpDim: 64, steps: 3 }],
};

const batch = 32;
const imageSize = 224;
const sides = ["ours", "python"] as const satisfies readonly Side[];

const MEANINGS: Record<string, string> = {
  oneCoreImagesPerSecond: "x torchvision's images/s, each side on one and the same core",
  oneCoreImagesPerCpuSecond: "x torchvision's images per second of CPU time, on one core",
  gpuAugmentImagesPerCpuSecond: "x torchvision's whole pipeline: what --augment gpu leaves to the CPU, per second of CPU time",
  allCoresImagesPerSecond: "x the images/s of a DataLoader with a worker per core",
  allCoresImagesPerCpuSecond: "x the same per second of CPU time",
  scaling: "of perfect: images/s on all cores over cores x images/s on one",
  scalingPython: "of perfect for the DataLoader",
  ...Object.fromEntries(stageNames.map((stage) => [`${stage}Time`, "x torchvision's time for the same images"])),
  peakMemory: "x the DataLoader's memory, its workers included",
  memoryGrowth: "x: memory in an epoch's last quarter over that in its second; 1 is flat",
  memoryGrowthPython: "x: the same for the DataLoader",
};

/**
 * Two 224-pixel views of JPEGs of ImageNet's size, beside upstream's pipeline of torchvision and PIL: on one core, on all, stage by stage,
 * how flat memory stays, and how long a training on the CPU waits for its images (Linux).
 *
 * The files are parts of two photographs among the tests' fixtures, made by Pillow. Python's side is upstream's own classes where a
 * checkout is given, else the same transforms from torchvision and PIL.
 */
export async function benchmarkData(options: BenchmarkOptions): Promise<BenchmarkResult> {
  const extent = options.quick ? QUICK : FULL;
  const upstream = options.upstream === undefined ? null : resolve(options.upstream);
  if (upstream !== null && !existsSync(join(upstream, "moco", "loader.py"))) {
    throw new BenchmarkError(`data: ${upstream} has no moco/loader.py; give a checkout of facebookresearch/moco-v3 to --upstream, or none`);
  }
  const { threads } = options;
  const cores = availableParallelism();
  const core = coreForOne();
  const start = peersOf("data", "python", options);
  return withMeasuredFolder(options, async (folder) => {
    const open = (side: Side, workers: number, only: number | null = null, operatorThreads = 1): Peer => {
      const settings: DataSettings = { folder, recipes: viewRecipes(), imageSize, batch, workers, upstream };
      return start[side]({ args: [JSON.stringify(settings)], threads: operatorThreads, core: only });
    };
    const peers: Peer[] = [];
    const begin = (...how: Parameters<typeof open>): Peer => {
      const peer = open(...how);
      peers.push(peer);
      return peer;
    };

    try {
      const oneCore = { ours: begin("ours", 1, core), python: begin("python", 0, core) };
      const make: DataRequest = { do: "make", photos: originalPhotographs(), files: extent.files };
      const files = await oneCore.python.ask<FilesAnswer>(JSON.stringify(make));
      say(`${extent.files} files of ${Math.round(files.meanBytes)} bytes on average`);
      const allCores = { ours: begin("ours", cores), python: begin("python", cores) };

      const load = (side: Side, peer: Peer, images: number) => (epoch: number): [Peer, DataRequest] =>
        [peer, { do: "load", images: images * extent.images[side], epoch, watchMemory: false }];
      const measurements = {
        oursOneCore: load("ours", oneCore.ours, 1), pythonOneCore: load("python", oneCore.python, 1),
        crops: (epoch: number): [Peer, DataRequest] => [oneCore.ours, { do: "crops", images: extent.images.ours, epoch }],
        oursAllCores: load("ours", allCores.ours, cores), pythonAllCores: load("python", allCores.python, cores),
      };
      const kinds = Object.keys(measurements) as (keyof typeof measurements)[];
      const answers = await interleave(kinds, { rounds: options.rounds }, async (kind, round) => {
        const [peer, request] = measurements[kind](round);
        const answer = await peer.ask<LoadAnswer>(JSON.stringify(request));
        say(`${round || "warm-up"} ${kind}: ${perSecond(answer).toFixed(0)} images/s, ${perCpuSecond(answer).toFixed(0)} per second of CPU time`);
        return answer;
      });
      const rounds: Rounds = {
        oneCore: { ours: answers.oursOneCore, python: answers.pythonOneCore }, allCores: { ours: answers.oursAllCores, python: answers.pythonAllCores },
        crops: answers.crops,
      };

      const watched = {} as Record<Side, ReturnType<typeof flatness>>;
      const memory = {} as Record<Side, LoadAnswer["memory"]>;
      for (const side of sides) {
        const request: DataRequest = { do: "load", images: extent.watched[side], epoch: options.rounds + 1, watchMemory: true };
        memory[side] = (await allCores[side].ask<LoadAnswer>(JSON.stringify(request))).memory;
        watched[side] = flatness(memory[side]);
        const { peak, spread } = watched[side];
        say(`${side}, memory: ${megabytes(peak)} at most, ${megabytes(spread)} more or less after the first quarter`);
      }
      for (const peer of peers.splice(0)) peer.close();

      const trainings: (Training & TrainAnswer & { waitShare: number })[] = [];
      for (const each of extent.trainings) {
        const training = { ...each, threads };
        const peer = begin("ours", cores, null, threads);
        const answer = await peer.ask<TrainAnswer>(JSON.stringify({ do: "train", ...training } satisfies DataRequest));
        peer.close();
        const waitShare = shareOfWait(answer);
        say(`${each.encoder}: ${median(answer.stepMs).toFixed(0)} ms a step, ${(100 * waitShare).toFixed(2)} % of it waiting for images`);
        trainings.push({ ...training, ...answer, waitShare });
      }

      const about = {
        files: `${extent.files} of 500 x 375 pixels, JPEG quality 90, made by Pillow from two photographs`, meanBytes: files.meanBytes,
        views: 2, imageSize, batch, cores, pinnedTo: core, operatorThreads: threads, rounds: options.rounds, pageCache: "warm",
        imagesPerCore: extent.images, peer: upstream === null ? "torchvision and PIL" : "upstream's classes, torchvision and PIL",
      };
      const described = describeRun("data", options.python, about);
      return {
        ...described,
        versions: { ...described.versions, ...files.versions },
        ratios: {
          ...throughputRatios(rounds, cores),
          ...stageRatios(rounds),
          peakMemory: watched.ours.peak / watched.python.peak,
          memoryGrowth: watched.ours.growth,
          memoryGrowthPython: watched.python.growth,
          ...Object.fromEntries(trainings.map(({ encoder, waitShare }) => [`${encoder}DataWait`, waitShare])),
        },
        meanings: {
          ...MEANINGS,
          ...Object.fromEntries(trainings.map(({ encoder }) => [`${encoder}DataWait`, "of the time of a training step on the CPU, waited"])),
        },
        raw: {
          medians: mediansOf(rounds),
          memory: { ...watched, samples: { ours: thinned(memory.ours), python: thinned(memory.python) } },
          trainings,
          rounds,
        },
      };
    } finally {
      for (const peer of peers) peer.close();
    }
  });
}

/** Of the time of all steps but the first, which nothing could be prepared for. */
function shareOfWait({ stepMs, waitMs }: TrainAnswer): number {
  const sum = (values: readonly number[]): number => values.slice(1).reduce((total, value) => total + value, 0);
  return sum(waitMs) / sum(stepMs);
}
