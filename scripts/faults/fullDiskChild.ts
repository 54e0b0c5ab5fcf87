/**
 * Saves on the small file system at the path of its first argument until that is full, and prints what it found, a `FullDiskReport`.
 */
import { appendFileSync, readdirSync, rmSync, statfsSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { diskFiles } from "../../lib/checkpoint/files/durableFile.js";
import { checkpointName, type Position } from "../../lib/train/runs/checkpointFiles.js";
import { CheckpointSaveError } from "../../lib/train/runs/checkpointFolder.js";
import type { Retention } from "../../lib/train/runs/checkpointRetention.js";
import { Random } from "../fuzz/random.js";
import { CheckpointContents } from "./checkpointContents.js";
import { Expectation } from "./expectation.js";
import type { FullDiskReport } from "./fullDisk.js";
import { listingOf, loadingViolations } from "./realFolder.js";
import { Tally } from "./tally.js";
import { backgroundWriter, wholeWriter } from "./wholeWriter.js";
import { ours, type Writer } from "./writers.js";

/** Float32 values in a checkpoint: 48 kB, a dozen pages. */
const ELEMENTS = 12_000;
const CONTENTS = 30;
const FILLER = "filler.bin";
const RETENTIONS: readonly Retention[] = [{}, { keep: 1 }, { keep: 2, keepEvery: 3 }];

async function main(folder: string, rounds: number, seed: number): Promise<void> {
  const contents = new CheckpointContents(ELEMENTS);
  const tally = new Tally();
  const byStage: FullDiskReport["byStage"] = { write: 0, point: 0 };
  for (let round = 0; round < rounds; round++) {
    const stage = await fillOnce(folder, round, new Random(seed, round), contents, tally);
    byStage[stage]++;
  }
  const { faults, states, nextRuns, violations, violationCount } = tally;
  const report: FullDiskReport = { skipped: null, faults, states, nextRuns, violations, violationCount, byStage };
  process.stdout.write(`${JSON.stringify(report)}\n`);
}

/** Saves until the disk is full, looks, frees some space, and saves again. */
async function fillOnce(
  folder: string, round: number, random: Random, contents: CheckpointContents, tally: Tally,
): Promise<CheckpointSaveError["stage"]> {
  for (const name of readdirSync(folder)) rmSync(join(folder, name));
  const retention = RETENTIONS[round % RETENTIONS.length]!;
  const where = `full disk, ${JSON.stringify(retention)}`;
  writeFileSync(join(folder, FILLER), "");
  const limitsFiles = statfsSync(folder).ffree < 1000;
  const expected = new Expectation(new Map(), retention, (bytes) => contents.identify(bytes));
  const writer: Writer = [wholeWriter(ELEMENTS), ours, backgroundWriter(ELEMENTS), ours][round % 4]!;
  const run = await writer(folder, retention, diskFiles);
  const report = (violations: string[]): void => {
    for (const what of violations) tally.violation({ where, fault: "ENOSPC of a real disk", place: `round ${round}`, what });
  };
  const own = (): ReturnType<typeof listingOf> =>
    new Map([...listingOf(folder)].filter(([name]) => name !== FILLER && !name.startsWith("spare")));

  let error: unknown = null;
  let position: Position = { epoch: 0, step: 0 };
  const save = async (): Promise<void> => {
    position = position.step === 0 && random.chance(40) ? { ...position, step: 1 } : { epoch: position.epoch + 1, step: 0 };
    const number = 1 + ((round * 7 + position.epoch * 2 + position.step) % CONTENTS);
    const bytes = await contents.bytes(number);
    expected.begins({ name: checkpointName(position), number });
    await run.save(position, bytes, number);
    expected.saved(own());
    report(expected.violationsAtRest(own()));
  };
  for (let saves = 0; error === null; saves++) {
    // Bytes: from none at all to a little more than two checkpoints. Files: fewer and fewer.
    if (saves > 0 && !limitsFiles) leave(folder, random.below(30) * 4096);
    if (limitsFiles) takeFiles(folder, saves === 0 ? 4 + random.below(5) : statfsSync(folder).ffree - random.below(2), saves);
    try {
      await save();
    } catch (thrown) {
      error = thrown;
    }
  }
  tally.count("ENOSPC of a real disk");
  tally.states++;
  const listing = own();
  report(expected.violations(listing));
  if (!(error instanceof CheckpointSaveError) || error.code !== "ENOSPC") throw error;
  if ([...listing.keys()].some((name) => name.endsWith(".tmp"))) report(["a temporary file takes space on the full disk"]);
  for (const path of [join(folder, "last.pth.tar"), ...(error.kept === null ? [] : [error.kept])]) {
    report(await loadingViolations(path, numberIn(path, folder, contents), ELEMENTS));
  }

  truncateSync(join(folder, FILLER));
  for (const name of readdirSync(folder).filter((each) => each.startsWith("spare"))) rmSync(join(folder, name));
  await save();
  tally.nextRuns++;
  await run.close?.();
  return error.stage;
}

/** Leaves room for only so many more files. */
function takeFiles(folder: string, left: number, round: number): void {
  const surplus = statfsSync(folder).ffree - left;
  for (let i = 0; i < surplus; i++) writeFileSync(join(folder, `spare-${round}-${i}`), "");
}

/** Fills the disk but for so many bytes. */
function leave(folder: string, bytes: number): void {
  const { bavail, bsize } = statfsSync(folder);
  const surplus = bavail * bsize - bytes;
  if (surplus > 0) appendFileSync(join(folder, FILLER), Buffer.alloc(surplus));
}

function numberIn(path: string, folder: string, contents: CheckpointContents): number | null {
  const listing = listingOf(folder);
  const entry = listing.get(path.slice(folder.length + 1));
  const file = entry?.kind === "link" ? listing.get(entry.target) : entry;
  return file?.kind === "file" ? contents.identify(file.bytes) : null;
}

await main(process.argv[2]!, Number(process.argv[3]), Number(process.argv[4]));
