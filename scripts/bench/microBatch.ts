import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { childEnvironment } from "../../lib/config.js";
import { readRunLog } from "../../lib/report/index.js";
import { writeEmoji } from "../compare/emojiFolder.js";
import { withMeasuredFolder } from "./measuredFolder.js";
import { makePhotographs } from "./photographs.js";
import { BenchmarkError, Peer } from "./peer.js";
import { processMemory } from "./processMemory.js";
import { say } from "./progress.js";
import { recordedResult } from "./records.js";
import type { CompareAnswer, MicroBatchRequest, StepAnswer } from "./microBatchProtocol.js";
import { describeRun, median, type BenchmarkOptions, type BenchmarkResult } from "./result.js";

interface Extent {
  imageSize: number;
  /** Batches that fit as a whole, with the chunks to compare. */
  steps: readonly { batch: number; chunks: readonly number[] }[];
  equality: { batch: number; chunks: readonly number[] };
  /** Compared at the random start and after so many steps. */
  batchNorm: { archs: readonly string[]; imageSize: number; batch: number; chunks: readonly number[]; pictures: number; trained: readonly number[] };
  large: { batch: number; chunk: number; files: number; limitGB: number };
}

const FULL: Extent = {
  imageSize: 224,
  steps: [{ batch: 32, chunks: [8, 16] }, { batch: 64, chunks: [8, 16, 32] }],
  equality: { batch: 32, chunks: [8, 12, 16] },
  batchNorm: { archs: ["resnet50", "vit_conv_small"], imageSize: 64, batch: 256, chunks: [32, 64, 128], pictures: 1024, trained: [0, 30] },
  large: { batch: 4096, chunk: 8, files: 2048, limitGB: 12 },
};
const QUICK: Extent = {
  imageSize: 64,
  steps: [{ batch: 16, chunks: [4] }],
  equality: { batch: 8, chunks: [3] },
  batchNorm: { archs: ["resnet18"], imageSize: 64, batch: 16, chunks: [8], pictures: 64, trained: [1] },
  large: { batch: 16, chunk: 4, files: 8, limitGB: 12 },
};

const arch = "vit_small";
const parts = ["step", "equality", "batch-norm", "large"] as const;
type Part = (typeof parts)[number];
type Measured = { ratios: Record<string, number>; meanings: Record<string, string>; raw: unknown };

/**
 * `--micro-batch`: memory and time beside the whole batch where both fit, how equal the gradients are, how much BatchNorm over images changes,
 * and a step of 4,096 images by the command itself (Linux). `--only` measures some of the parts and keeps the others of the last result.
 */
export async function benchmarkMicroBatch(options: BenchmarkOptions): Promise<BenchmarkResult> {
  const chosen = (options.only?.split(",") ?? parts) as Part[];
  const unknown = chosen.find((part) => !parts.includes(part));
  if (unknown !== undefined) throw new BenchmarkError(`micro-batch has no part "${unknown}"; choose of ${parts.join(", ")}`);
  const extent = options.quick ? QUICK : FULL;
  const measure: Record<Part, (extent: Extent, options: BenchmarkOptions) => Promise<Measured>> = {
    step: measureSteps, equality: measureEquality, "batch-norm": measureBatchNorm, large: measureLarge,
  };
  const result: BenchmarkResult = { ...describeRun("micro-batch", null, { arch, threads: options.threads, extent }), ratios: {}, meanings: {}, raw: {} };
  for (const part of chosen) {
    const { ratios, meanings, raw } = await measure[part](extent, options);
    Object.assign(result.ratios, ratios);
    Object.assign(result.meanings!, meanings);
    result.raw[part] = { date: result.date, ...(raw as object) };
  }
  // Read at the end: a part may take an hour, and another process may have measured others meanwhile.
  const before = options.only === undefined ? null : recordedResult("micro-batch");
  if (before !== null) for (const field of ["ratios", "meanings", "raw"] as const) result[field] = { ...before[field], ...result[field] } as never;
  return result;
}

/** Peak memory and time of a step, each size in a process of its own. */
async function measureSteps({ imageSize, steps }: Extent, { threads, rounds }: BenchmarkOptions): Promise<Measured> {
  const measured: (StepAnswer & { batch: number; chunk: number | null; peakBytes: number; seconds: number })[] = [];
  const ratios: Record<string, number> = {};
  const meanings: Record<string, string> = {};
  for (const { batch, chunks } of steps) {
    let whole: { peakBytes: number; seconds: number } | null = null;
    for (const chunk of [null, ...chunks]) {
      const { answer, peakBytes } = await ask<StepAnswer>({ do: "step", arch, imageSize, batch, chunk, threads, rounds });
      const each = { batch, chunk, peakBytes, seconds: median(answer.stepSeconds), ...answer };
      measured.push(each);
      say(`${arch}, batch ${batch}, ${chunk ?? "no"} chunks: ${each.seconds.toFixed(2)} s, ${gigabytes(peakBytes)}`);
      if (chunk === null) {
        whole = each;
        continue;
      }
      const name = `${arch}Batch${batch}Chunk${chunk}`;
      ratios[`${name}Time`] = each.seconds / whole!.seconds;
      ratios[`${name}PeakMemory`] = peakBytes / whole!.peakBytes;
      meanings[`${name}Time`] = "x the whole batch's step";
      meanings[`${name}PeakMemory`] = "x the whole batch's, the process with its libraries and weights in both";
    }
  }
  return { ratios, meanings, raw: { imageSize, measured } };
}

async function measureEquality({ imageSize, equality }: Extent, { threads }: BenchmarkOptions): Promise<Measured> {
  const { answer } = await ask<CompareAnswer>({ do: "compare", arch, imageSize, threads, ...equality, data: null, trained: 0 });
  const worst = Math.max(...answer.comparisons.map(({ gradient }) => gradient.relative));
  say(`${arch}, batch ${equality.batch}: gradients differ by ${worst.toExponential(2)}`);
  return {
    ratios: { gradientDifference: worst },
    meanings: { gradientDifference: `of the gradient's length, at most, for chunks of ${equality.chunks.join(", ")} in float32` },
    raw: { imageSize, ...equality, ...answer },
  };
}

/** How far chunks lead from the whole batch where BatchNorm takes statistics from a chunk at a time, on the demo's emoji. */
async function measureBatchNorm({ batchNorm: { archs, pictures, trained: moments, ...sizes } }: Extent, { threads, dir }: BenchmarkOptions): Promise<Measured> {
  return withMeasuredFolder({ dir }, async (folder) => {
    await writeEmoji(folder, { count: pictures });
    const raw: (CompareAnswer & { arch: string; trained: number })[] = [];
    const ratios: Record<string, number> = {};
    const meanings: Record<string, string> = {};
    for (const each of archs) {
      for (const trained of moments) {
        const { answer } = await ask<CompareAnswer>({ do: "compare", arch: each, threads, ...sizes, data: join(folder, "train"), trained });
        raw.push({ arch: each, trained, ...answer });
        for (const { chunk, loss, wholeLoss, gradient } of answer.comparisons) {
          say(
            `${each} after ${trained} steps, chunks of ${chunk}: loss ${loss.toFixed(5)} (${wholeLoss.toFixed(5)}), gradient's cosine ` +
              `${gradient.cosine.toFixed(4)}, of another batch ${answer.otherBatchCosine!.toFixed(4)}`,
          );
          const name = `${each}Step${trained}Chunk${chunk}GradientCosine`;
          ratios[name] = gradient.cosine;
          meanings[name] = `between the gradient in chunks and the whole batch's, after ${trained} steps`;
        }
      }
    }
    return { ratios, meanings, raw: { ...sizes, pictures, measured: raw } };
  });
}

/** `moco pretrain` itself: one step of a large batch from JPEGs, while the next batch is made. */
async function measureLarge({ imageSize, large }: Extent, { threads, dir }: BenchmarkOptions): Promise<Measured> {
  const { batch, chunk, files, limitGB } = large;
  return withMeasuredFolder({ dir }, async (folder) => {
    mkdirSync(join(folder, "photographs"));
    const names = await makePhotographs(join(folder, "photographs"), files);
    // Two batches' worth, so that the second is being made during the first one's step, as in a long training.
    const lines = Array.from({ length: 2 * batch }, (_, i) => join("photographs", names[i % names.length]!));
    writeFileSync(join(folder, "photographs.txt"), `${lines.join("\n")}\n`);
    const flags = [
      "-a", arch, "-b", batch, "--micro-batch", chunk, "--image-size", imageSize, "--optimizer", "adamw", "--lr", "1.5e-4", "--wd", ".1",
      "--moco-t", ".2", "--stop-grad-conv1", "--moco-m-cos", "--epochs", "1", "--warmup-epochs", "0", "--stop-after", "1", "--seed", "0",
      "--device", "cpu", "--threads", threads, "--workers", threads,
    ].map(String);
    say(`moco pretrain photographs.txt ${flags.join(" ")}`);
    const out = join(folder, "run");
    const { seconds, peakBytes } = await watched([join(folder, "photographs.txt"), ...flags, "--out", out]);
    const [step] = readRunLog(join(out, "log.jsonl")).steps;
    say(`${batch} images in chunks of ${chunk}: ${gigabytes(peakBytes)} at most, step ${(step!.stepMs / 1000).toFixed(0)} s, loss ${step!.loss}`);
    return {
      ratios: { [`batch${batch}PeakMemory`]: peakBytes / (limitGB * 1e9) },
      meanings: { [`batch${batch}PeakMemory`]: `of ${limitGB} GB, for a step of ${batch} images in chunks of ${chunk}` },
      raw: { command: `moco pretrain photographs.txt ${flags.join(" ")}`, images: `${files} JPEGs of 500 x 375 pixels`, imageSize, ...large, threads, peakBytes, seconds, step },
    };
  });
}

/** Runs `moco pretrain`, with an eye on the largest resident size that the system counts for it. */
async function watched(words: readonly string[]): Promise<{ seconds: number; peakBytes: number }> {
  const main = fileURLToPath(new URL("../../lib/cli/main.js", import.meta.url));
  const started = performance.now();
  const child = spawn(process.execPath, [main, "pretrain", ...words], { stdio: ["ignore", "ignore", "inherit"], env: childEnvironment() });
  let peakBytes = 0;
  const look = (): void => {
    try {
      peakBytes = processMemory(child.pid!).peak || peakBytes; // a process that is ending has none
    } catch {
      // It has ended; what was seen last counts.
    }
  };
  const watch = setInterval(look, 100);
  const code = await new Promise<number | null>((resolve, reject) => child.on("error", reject).on("exit", resolve));
  clearInterval(watch);
  if (code !== 0) throw new BenchmarkError(`micro-batch: moco pretrain ended with ${code}; its messages are above`);
  return { seconds: (performance.now() - started) / 1000, peakBytes };
}

/** One measurement in a process of its own. */
async function ask<T>(request: MicroBatchRequest): Promise<{ answer: T; peakBytes: number }> {
  const program = fileURLToPath(new URL("./peers/micro-batch.js", import.meta.url));
  const peer = new Peer("micro-batch", process.execPath, [program], { OMP_NUM_THREADS: String(request.threads) });
  try {
    const answer = await peer.ask<T>(JSON.stringify(request));
    return { answer, peakBytes: peer.peakMemory() };
  } finally {
    peer.close();
  }
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(2)} GB`;
