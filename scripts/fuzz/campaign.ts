import { fork, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { childEnvironment } from "../../lib/config.js";
import { addTally, emptyTally, type Tally } from "./tally.js";
import { PROGRESS_BYTES, type Batch, type BatchReport, type WorkerFinding } from "./workerProtocol.js";

export interface CampaignOptions {
  readonly target: string;
  readonly seed: number;
  /** First input. */
  readonly from: number;
  /** Stop after so many inputs, or after so many seconds, whichever comes first. */
  readonly inputs: number;
  readonly seconds: number;
  readonly workers: number;
  /** A module whose `target` is fuzzed instead, for tests of the fuzzer. */
  readonly module?: string;
  /** A worker that stays on one input for so long hangs. */
  readonly hangSeconds?: number;
  /** Called about once a second. */
  readonly onProgress?: (result: CampaignResult) => void;
}

export interface CampaignResult {
  readonly tally: Tally;
  readonly findings: WorkerFinding[];
  /** Largest rise of a worker's resident memory during a batch, as a share of what one input may take (2 × its size + 64 MiB). */
  memoryRatio: number;
  seconds: number;
}

/** Inputs given to a worker at a time. */
const BATCH = 500;
const HANG_SECONDS = 10;
/** Megabytes of JavaScript objects that a worker may hold; a reader that fills them dies, and its input is a finding. */
const HEAP_MEGABYTES = 256;
/** After so many findings a campaign stops: they are the same few bugs. */
const ENOUGH_FINDINGS = 200;

/** Runs inputs in worker processes, and watches these: a worker that dies, or that hangs, is a finding and is replaced. */
export async function runCampaign(options: CampaignOptions): Promise<CampaignResult> {
  const result: CampaignResult = { tally: emptyTally(), findings: [], memoryRatio: 0, seconds: 0 };
  const started = performance.now();
  const end = options.from + options.inputs;
  let next = options.from;
  const takeBatch = (): Batch | null => {
    if (next >= end || result.findings.length >= ENOUGH_FINDINGS || performance.now() - started > options.seconds * 1000) return null;
    const batch = { from: next, count: Math.min(BATCH, end - next) };
    next += batch.count;
    return batch;
  };
  const report = setInterval(() => {
    result.seconds = (performance.now() - started) / 1000;
    options.onProgress?.(result);
  }, 1000);
  const folder = mkdtempSync(join(tmpdir(), "moco-fuzz-"));
  try {
    await Promise.all(Array.from({ length: options.workers }, (_, i) => runWorker(join(folder, String(i)), options, takeBatch, result)));
  } finally {
    clearInterval(report);
    rmSync(folder, { recursive: true });
  }
  result.seconds = (performance.now() - started) / 1000;
  result.findings.sort((a, b) => a.index - b.index);
  return result;
}

async function runWorker(folder: string, options: CampaignOptions, takeBatch: () => Batch | null, result: CampaignResult): Promise<void> {
  mkdirSync(join(folder, "scratch"), { recursive: true });
  let worker = await Worker.start(folder, options);
  try {
    for (let batch = takeBatch(); batch !== null;) {
      const answer = await worker.run(batch);
      if (answer.report !== null) {
        take(result, answer.report);
        batch = takeBatch();
        continue;
      }
      // Died or hung: what it had counted of this batch is lost, so the batch is run again in two parts, around the culprit.
      result.findings.push({ index: answer.index, fault: answer.fault });
      worker = await Worker.start(folder, options);
      const before: Batch = { from: batch.from, count: answer.index - batch.from };
      if (before.count > 0) {
        const again = await worker.run(before);
        if (again.report !== null) take(result, again.report);
        else worker = await Worker.start(folder, options);
      }
      batch = { from: answer.index + 1, count: batch.from + batch.count - answer.index - 1 };
      if (batch.count === 0) batch = takeBatch();
    }
  } finally {
    worker.stop();
  }
}

function take(result: CampaignResult, { tally, findings, memoryRatio }: BatchReport): void {
  addTally(result.tally, tally);
  result.findings.push(...findings);
  result.memoryRatio = Math.max(result.memoryRatio, memoryRatio);
}

type Answer = { readonly report: BatchReport } | { readonly report: null; readonly index: number; readonly fault: string };

class Worker {
  #stderr = "";

  private constructor(private readonly process: ChildProcess, private readonly folder: string, private readonly hangSeconds: number) {
    process.stderr?.on("data", (text: Buffer) => (this.#stderr = (this.#stderr + text.toString()).slice(-2000)));
  }

  static async start(folder: string, { target, seed, module = "", hangSeconds = HANG_SECONDS }: CampaignOptions): Promise<Worker> {
    const child = fork(fileURLToPath(new URL("./worker.js", import.meta.url)), [target, String(seed), folder, module], {
      execArgv: ["--expose-gc", `--max-old-space-size=${HEAP_MEGABYTES}`],
      env: childEnvironment({ OMP_NUM_THREADS: "1" }),
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    const worker = new Worker(child, folder, hangSeconds);
    await new Promise<void>((resolve, reject) => {
      child.once("message", () => resolve());
      child.once("exit", (code, signal) => reject(new Error(`a worker did not start (${signal ?? code}): ${worker.#stderr}`)));
    });
    child.removeAllListeners("exit");
    return worker;
  }

  run(batch: Batch): Promise<Answer> {
    return new Promise((resolve) => {
      let last = -1;
      let since = performance.now();
      let hung = false;
      const watch = setInterval(() => {
        const index = this.#current();
        if (index !== last) since = performance.now();
        else if (performance.now() - since > this.hangSeconds * 1000) {
          hung = true;
          this.stop();
        }
        last = index;
      }, 500);
      const finish = (answer: Answer): void => {
        clearInterval(watch);
        this.process.removeAllListeners("message").removeAllListeners("exit");
        resolve(answer);
      };
      this.process.once("message", (report: BatchReport) => finish({ report }));
      this.process.once("exit", (code, signal) => {
        const cause = hung
          ? `hung for ${this.hangSeconds} s`
          : `the process died (${signal ?? code}): ${this.#stderr.trim().slice(0, 500)}`;
        finish({ report: null, index: Math.max(batch.from, Math.min(this.#current(), batch.from + batch.count - 1)), fault: cause });
      });
      this.process.send(batch);
    });
  }

  stop(): void {
    this.process.kill("SIGKILL");
  }

  /** The input that the worker is at. */
  #current(): number {
    const bytes = readFileSync(join(this.folder, "progress"));
    return bytes.length < PROGRESS_BYTES ? -1 : bytes.readDoubleLE(0);
  }
}
