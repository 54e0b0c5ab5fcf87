import { execFileSync } from "node:child_process";
import { statfsSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { interleave } from "./interleave.js";
import { withMeasuredFolder } from "./measuredFolder.js";
import { BenchmarkError, peersOf, type Peer } from "./peer.js";
import type { CheckpointRequest } from "./peers/checkpoint.js";
import { say } from "./progress.js";
import { describeRun, type BenchmarkOptions, type BenchmarkResult } from "./result.js";
import { geometricMean, median, pairedRatio } from "./spread.js";

interface Recipe {
  arch: string;
  mlpDim: number;
  /** Free bytes that the files need. */
  space: number;
}

const FULL: Recipe = { arch: "vit_base", mlpDim: 4096, space: 6e9 };
const QUICK: Recipe = { arch: "resnet18", mlpDim: 256, space: 1e9 };

interface LoadAnswer {
  seconds: number;
  extraBytes: number;
}

/** What saving costs the training loop, in seconds. */
export interface StallAnswer {
  /** Synchronous saves, one before each in the background. */
  synchronous: number[];
  /** The first save in the background, and the following ones. */
  first: number;
  following: number[];
  /** From the begin of each of them until the file is in place. */
  written: number[];
  step: number;
}

const MEANINGS = {
  loadTime: "x torch.load's time (page cache warm)",
  loadExtraMemory: "x the file's size: what reading adds to the process at its peak",
  loadExtraMemoryTorch: "x the file's size for torch.load",
  saveTime: "x the time of torch.save, fsync, rename and fsync of the folder: as durable as ours",
  savePlainTime: "x torch.save's time, ours without fsync too: the disk may lag behind both",
  saveTimeOverPlain: "x torch.save's time without fsync, ours durable: not like with like",
  saveStall: "x shorter: the stall of a save in the background, beside a synchronous save",
  saveStallFirst: "x shorter: the same of the first one",
};

/**
 * Loading and saving a checkpoint of a MoCo run with AdamW's state, beside `torch.load(weights_only=True)` and `torch.save` of the same
 * values, alternating; and for how long a save in the background holds up a training loop.
 *
 * Each load is in a fresh process, with the file in the page cache. Before each save the disk is quiet (`sync`).
 */
export async function benchmarkCheckpoint(options: BenchmarkOptions): Promise<BenchmarkResult> {
  const { arch, mlpDim, space } = options.quick ? QUICK : FULL;
  const parent = options.dir ?? tmpdir();
  const { bavail, bsize } = statfsSync(parent);
  if (bavail * bsize < space) {
    const free = bavail * bsize;
    throw new BenchmarkError(`checkpoint: ${parent} has ${free} bytes free and ${space} are needed; give another folder with --dir`);
  }
  const { threads } = options;
  const starters = peersOf("checkpoint", "torch", options);
  const sides = ["ours", "torch"] as const;
  type Side = (typeof sides)[number];
  const start = (side: Side): Peer => starters[side]({ args: [JSON.stringify({ threads })], threads });
  const once = async <T>(side: Side, request: CheckpointRequest): Promise<T> => {
    const peer = start(side);
    try {
      return await peer.ask<T>(JSON.stringify(request));
    } finally {
      peer.close();
    }
  };

  return withMeasuredFolder(options, async (folder) => {
    const path = join(folder, "checkpoint.pth.tar");
    await once("ours", { do: "make", arch, mlpDim, path });
    const fileBytes = statSync(path).size;
    say(`${arch} with AdamW's state: ${fileBytes} bytes`);

    // The warm-up puts the file into the page cache.
    const loads = await interleave(sides, { rounds: options.rounds }, async (side, round) => {
      const answer = await once<LoadAnswer>(side, { do: "load", path });
      say(`load ${round || "warm-up"}, ${side}: ${answer.seconds.toFixed(3)} s`);
      return answer;
    });

    let saves: Record<"durable" | "plain", Record<Side, number[]>>;
    const peers = { ours: start("ours"), torch: start("torch") };
    let stall: StallAnswer;
    try {
      for (const side of sides) await peers[side].ask(JSON.stringify({ do: "hold", path } satisfies CheckpointRequest));
      const save = async (kind: string): Promise<Record<Side, number[]>> =>
        // A disk that was written to is slower for a while (three times here): in an even number of rounds each side goes first as often as the other.
        interleave(sides, { rounds: 2 * Math.ceil(options.rounds / 2) }, async (side, round) => {
          quietDisk();
          const request: CheckpointRequest = { do: "save", path: join(folder, `${side}.pth.tar`), durable: kind === "durable" };
          const { seconds } = await peers[side].ask<{ seconds: number }>(JSON.stringify(request));
          say(`${kind} save ${round || "warm-up"}, ${side}: ${seconds.toFixed(3)} s`);
          return seconds;
        });
      saves = { durable: await save("durable"), plain: await save("plain") };
      peers.torch.close();
      quietDisk();
      const request: CheckpointRequest = { do: "stall", path: join(folder, "stall.pth.tar"), rounds: options.rounds };
      stall = await peers.ours.ask<StallAnswer>(JSON.stringify(request));
    } finally {
      for (const side of sides) peers[side].close();
    }

    const seconds = (side: Side): number[] => loads[side].map((answer) => answer.seconds);
    const memory = (side: Side): number => median(loads[side].map((answer) => answer.extraBytes)) / fileBytes;
    const ratios: Record<keyof typeof MEANINGS, number> = {
      loadTime: pairedRatio(seconds("ours"), seconds("torch")),
      loadExtraMemory: memory("ours"),
      loadExtraMemoryTorch: memory("torch"),
      saveTime: balanced(saves.durable.ours, saves.durable.torch),
      savePlainTime: balanced(saves.plain.ours, saves.plain.torch),
      saveTimeOverPlain: balanced(saves.durable.ours, saves.plain.torch),
      saveStall: median(stall.synchronous) / median(stall.following),
      saveStallFirst: median(stall.synchronous) / stall.first,
    };
    const about = { arch, fileBytes, threads, rounds: options.rounds, pageCache: "warm" };
    return { ...describeRun("checkpoint", options.python, about), ratios, meanings: MEANINGS, raw: { loads, saves, stall } };
  });
}

/** Median over pairs of rounds, in which either side went first once, of the geometric mean of the ratios. */
function balanced(ours: readonly number[], theirs: readonly number[]): number {
  const ratios = ours.map((each, i) => each / (theirs[i] as number));
  const pairs = Array.from({ length: ratios.length / 2 }, (_, i) => geometricMean(ratios.slice(2 * i, 2 * i + 2)));
  return median(pairs);
}

/** Waits until nothing is left to be written, so that a save does not wait for the one before. */
function quietDisk(): void {
  execFileSync("sync");
}
