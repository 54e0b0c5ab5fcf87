/**
 * A process that runs inputs for the fuzzer. It writes the number of the input that it is about to run to a file first, so that its parent
 * knows which one it died of or hangs in.
 */
import { existsSync, openSync, readdirSync, writeSync } from "node:fs";
import { join } from "node:path";
import { ALLOWANCE, examine } from "./examine.js";
import type { FuzzInput, FuzzTarget } from "./fuzzTarget.js";
import { MemoryPeak } from "./processMemory.js";
import { Random } from "./random.js";
import { count, emptyTally } from "./tally.js";
import { targets } from "./targets.js";
import { PROGRESS_BYTES, type Batch, type BatchReport, type WorkerFinding } from "./workerProtocol.js";

const [targetName, seedText, folder, module] = process.argv.slice(2) as [string, string, string, string];
const seed = Number(seedText);
const target = module === "" ? (targets[targetName] as () => FuzzTarget)() : ((await import(module)) as { target: FuzzTarget }).target;
const progress = openSync(join(folder, "progress"), "w");
const scratch = join(folder, "scratch");
process.chdir(scratch);
Error.stackTraceLimit = 0; // thousands of errors a second; a finding is run again with its stack

const record = Buffer.alloc(PROGRESS_BYTES);

/** Leaves the number of the input that is about to run where the parent looks. */
function note(index: number): void {
  record.writeDoubleLE(index, 0);
  writeSync(progress, record, 0, PROGRESS_BYTES, 0);
}

async function runBatch({ from, count: length }: Batch): Promise<BatchReport> {
  const tally = emptyTally();
  const findings: WorkerFinding[] = [];
  const peak = new MemoryPeak();
  let smallest = Infinity;
  for (let index = from; index < from + length; index++) {
    note(index);
    const input = target.input(new Random(seed, index));
    smallest = Math.min(smallest, input.bytes.length);
    const outcome = await examine(input, target, scratch);
    count(tally, outcome);
    if (outcome.fault !== null) findings.push({ index, fault: await withStack(input, outcome.fault) });
  }
  for (const place of ["/tmp/PWNED", join(folder, "PWNED")]) if (existsSync(place)) findings.push({ index: from,
    fault: `${place} was made` });
  const left = readdirSync(scratch);
  if (left.length > 0) findings.push({ index: from, fault: `files were made: ${left.join(", ")}` });
  const memoryRatio = peak.rise() / (2 * smallest + ALLOWANCE);
  if (memoryRatio > 1) findings.push(...(await blame(from, length)));
  return { tally, findings, memoryRatio };
}

async function withStack(input: FuzzInput, fault: string): Promise<string> {
  Error.stackTraceLimit = 10;
  const again = await examine(input, target, scratch);
  Error.stackTraceLimit = 0;
  return again.fault ?? `${fault} (not the second time)`;
}

/** Which inputs of a batch take too much memory when each is run by itself. */
async function blame(from: number, length: number): Promise<WorkerFinding[]> {
  const findings: WorkerFinding[] = [];
  for (let index = from; index < from + length; index++) {
    note(index);
    const input = target.input(new Random(seed, index));
    (globalThis as { gc?: () => void }).gc?.();
    const peak = new MemoryPeak();
    await examine(input, target, scratch);
    const rise = peak.rise();
    if (rise > 2 * input.bytes.length + ALLOWANCE) findings.push({ index,
      fault: `took ${rise} bytes for a file of ${input.bytes.length}` });
  }
  return findings;
}

// The first inputs load and compile what all of them need, which is no input's memory.
if (module === "") for (let index = 0; index < 300; index++) await examine(target.input(new Random(-1, index)), target, scratch);

process.on("message", (batch: Batch) => {
  runBatch(batch).then(
    (report) => process.send?.(report),
    (error: unknown) => {
      console.error(error);
      process.exit(70);
    },
  );
});
process.send?.("ready");
