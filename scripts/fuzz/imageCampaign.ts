import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../../lib/setup/packageRoot.js";
import { runInputs, writeSeeds, type ImageInput } from "./imageDriver.js";
import { mutateImage, type MutatedImage } from "./imageMutator.js";
import { Random } from "./random.js";
import { emptyTally, type Tally } from "./tally.js";
import type { WorkerFinding } from "./workerProtocol.js";

export interface ImageCampaignOptions {
  /** The driver. */
  readonly program: string;
  readonly seed: number;
  /** First input. */
  readonly from: number;
  /** Stop after so many inputs, or after so many seconds, whichever comes first. */
  readonly inputs: number;
  readonly seconds: number;
  readonly workers: number;
  readonly onProgress?: (result: ImageCampaignResult) => void;
}

export interface ImageCampaignResult {
  readonly tally: Tally;
  readonly strategies: Record<string, number>;
  readonly findings: WorkerFinding[];
  seconds: number;
}

/** Inputs for one process. Leaks show when it ends. */
const BATCH = 250;
const ENOUGH_FINDINGS = 50;

/** The files that mutations begin with: those of the fixtures, and JPEGs of every layout that libjpeg writes; in a fixed order. */
export function imageSeeds(program: string): Buffer[] {
  const folder = mkdtempSync(join(tmpdir(), "moco-fuzz-"));
  try {
    writeSeeds(program, folder);
    const fixtures = join(packageRoot, "test", "fixtures", "augment", "files");
    const files = [fixtures, folder].flatMap((each) => readdirSync(each).sort().map((name) => join(each, name)));
    return files.map((file) => readFileSync(file));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Input `index` of a seed: always the same. */
export function imageInput(seeds: readonly Buffer[], seed: number, index: number): MutatedImage & ImageInput {
  const random = new Random(seed, index);
  return { ...mutateImage(seeds, random), seed: random.bits() };
}

/** Runs mutated images through the driver, in several processes. */
export async function runImageCampaign(options: ImageCampaignOptions): Promise<ImageCampaignResult> {
  const seeds = imageSeeds(options.program);
  const result: ImageCampaignResult = { tally: emptyTally(), strategies: {}, findings: [], seconds: 0 };
  const started = performance.now();
  const end = options.from + options.inputs;
  let next = options.from;
  const report = setInterval(() => {
    result.seconds = (performance.now() - started) / 1000;
    options.onProgress?.(result);
  }, 1000);
  const work = async (): Promise<void> => {
    while (next < end && result.findings.length < ENOUGH_FINDINGS && performance.now() - started < options.seconds * 1000) {
      const from = next;
      next = Math.min(end, next + BATCH);
      await runBatch(options, seeds, from, next, result);
    }
  };
  try {
    await Promise.all(Array.from({ length: options.workers }, work));
  } finally {
    clearInterval(report);
  }
  result.seconds = (performance.now() - started) / 1000;
  result.findings.sort((a, b) => a.index - b.index);
  return result;
}

async function runBatch(
  { program, seed }: ImageCampaignOptions, seeds: readonly Buffer[], from: number, end: number, result: ImageCampaignResult,
): Promise<void> {
  for (let index = from; index < end;) {
    const strategies: string[] = [];
    const first = index;
    const inputs = function* (): Generator<ImageInput> {
      for (let i = first; i < end; i++) {
        const input = imageInput(seeds, seed, i);
        strategies.push(input.strategy);
        yield input;
      }
    };
    const { verdicts, death } = await runInputs(program, inputs());
    for (const [i, { outcome, text }] of verdicts.entries()) {
      count(result, strategies[i] as string, outcome, outcome === "refused" ? text : outcome);
      if (outcome === "finding") result.findings.push({ index: first + i, fault: text });
    }
    index += verdicts.length;
    if (death === null) break;
    // The process died of the input that it did not answer, or, when all were answered, of what they left behind.
    result.findings.push({ index, fault: index === end ? `inputs ${first} to ${end - 1}: ${death}` : death });
    if (index < end) count(result, strategies[index - first] ?? "", "finding", "finding");
    index++;
  }
}

function count({ tally, strategies }: ImageCampaignResult, strategy: string, depth: string, reason: string): void {
  const kind = reason.replace(/0x[0-9a-f]+|\d+/g, "N").slice(0, 80);
  tally.inputs++;
  tally.depths[depth] = (tally.depths[depth] ?? 0) + 1;
  tally.kinds[kind] = (tally.kinds[kind] ?? 0) + 1;
  strategies[strategy] = (strategies[strategy] ?? 0) + 1;
}
