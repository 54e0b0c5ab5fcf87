import { fork } from "node:child_process";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { childEnvironment } from "../../lib/config.js";
import { describeRun, median, type BenchmarkOptions, type BenchmarkResult } from "./result.js";
import type { RankAnswer, RankQuestion } from "./distributedRank.js";

export interface AllReduceTime {
  ranks: number;
  bytes: number;
  ms: number;
}

/** Milliseconds of forward and backward of a MoCo step, by how gradients are averaged. */
export interface DistributedStep {
  ranks: number;
  arch: string;
  /** Images on each rank. */
  batch: number;
  parameters: number;
  /** Not averaged at all. */
  aloneMs: number;
  /** Averaged while backward runs. */
  overlappedMs: number;
  /** The same buckets after it. */
  afterwardsMs: number;
}

/** Milliseconds of forward and backward of one batch normalisation of [32, channels, 14, 14]. */
export interface SyncBatchNormTime {
  ranks: number;
  channels: number;
  localMs: number;
  synchronizedMs: number;
}

const child = fileURLToPath(new URL("./distributedRank.js", import.meta.url));

/**
 * Collectives over Gloo on this machine's loopback, one thread for each rank: all-reduce by size, gradients averaged during and after backward,
 * and synchronised batch normalisation. Ratios: averaging during backward over averaging after it.
 */
export async function benchmarkDistributed({ rounds, quick }: BenchmarkOptions): Promise<BenchmarkResult> {
  const imageSize = quick ? 32 : 64;
  const allReduce: AllReduceTime[] = [];
  const step: DistributedStep[] = [];
  const syncBatchNorm: SyncBatchNormTime[] = [];
  const ratios: Record<string, number> = {};
  for (const ranks of quick ? [2] : [2, 4]) {
    const question: RankQuestion = {
      rounds, imageSize, batch: quick ? 2 : 8, bytes: [4, 4096, 65536, 2 ** 20, ...(quick ? [] : [4 * 2 ** 20, 2 ** 24, 2 ** 26])],
      archs: quick ? ["vit_small"] : ["vit_small", "resnet18"], channels: [64, 512],
    };
    // All ranks wait for each other: the slowest one's time is that of all.
    const answers = await ask(ranks, question);
    const slowest = (pick: (answer: RankAnswer) => number[]): number => median(pick(answers[0]!).map((_, round) => Math.max(...answers.map((each) => pick(each)[round]!))));
    question.bytes.forEach((bytes, i) => allReduce.push({ ranks, bytes, ms: slowest((each) => each.allReduce[i]!) }));
    question.archs.forEach((arch, i) => {
      const time = (how: "alone" | "overlapped" | "afterwards"): number => slowest((each) => each.step[i]![how]);
      const [aloneMs, overlappedMs, afterwardsMs] = [time("alone"), time("overlapped"), time("afterwards")];
      step.push({ ranks, arch, batch: question.batch, parameters: answers[0]!.step[i]!.parameters, aloneMs, overlappedMs, afterwardsMs });
      ratios[`${arch}OverlapOn${ranks}Ranks`] = overlappedMs / afterwardsMs;
    });
    question.channels.forEach((channels, i) => {
      const time = (how: "local" | "synchronized"): number => slowest((each) => each.syncBatchNorm[i]![how]);
      syncBatchNorm.push({ ranks, channels, localMs: time("local"), synchronizedMs: time("synchronized") });
    });
  }
  const meanings = Object.fromEntries(Object.keys(ratios).map((key) => [key, "x averaging after backward"]));
  return {
    ...describeRun("distributed", null, { backend: "gloo", network: "loopback", threadsPerRank: 1, imageSize, rounds }),
    ratios, meanings, raw: { allReduce, step, syncBatchNorm },
  };
}

async function ask(ranks: number, question: RankQuestion): Promise<RankAnswer[]> {
  const port = await freePort();
  const children = Array.from({ length: ranks }, (_, rank) =>
    fork(child, [String(rank), String(ranks), String(port), JSON.stringify(question)], {
      env: childEnvironment({ OMP_NUM_THREADS: "1" }), stdio: ["ignore", "inherit", "inherit", "ipc"],
    }),
  );
  try {
    return await Promise.all(
      children.map((each, rank) => new Promise<RankAnswer>((resolve, reject) => {
        each.once("message", (answer) => resolve(answer as RankAnswer));
        each.once("exit", (code, signal) => reject(new Error(`rank ${rank} of the benchmark ended early (${signal ?? code}); its messages are above`)));
      })),
    );
  } finally {
    for (const each of children) each.kill("SIGKILL");
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
