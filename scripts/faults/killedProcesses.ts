import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { temporaryOwner } from "../../lib/checkpoint/files/temporaryFile.js";
import { findCheckpoint } from "../../lib/train/runs/checkpointFiles.js";
import type { Retention } from "../../lib/train/runs/checkpointRetention.js";
import { Random } from "../fuzz/random.js";
import type { CheckpointContents } from "./checkpointContents.js";
import { Expectation } from "./expectation.js";
import { listingOf, loadingViolations } from "./realFolder.js";
import type { ChildTask } from "./savingChild.js";
import type { Listing } from "./simulatedDisk.js";
import type { Tally } from "./tally.js";

const CONTENTS = 40;
/** Killed so long after its first save began, at most, in milliseconds. */
const LONGEST_LIFE = 60;
/** Lives that follow each other in one folder. */
const LIVES = 12;
/** Writers of the lives, in turn. */
const WRITERS: readonly ChildTask["writer"][] = ["durable", "durable", "whole", "durable", "durable", "background"];
/** A child that does not begin to save for so long is given up, in milliseconds. */
const PATIENCE = 60_000;

const CONFIGURATIONS: readonly { retention: Retention; links: ChildTask["links"] }[] = [
  { retention: { keep: 2 }, links: "symbolic" },
  { retention: { keep: 3, keepEvery: 4 }, links: "symbolic" },
  { retention: {}, links: "symbolic" },
  { retention: { keep: 1 }, links: "hard" },
  { retention: { keep: 2, keepEvery: 10 }, links: "none" },
];

/** What the killed processes were at. */
export interface KillFacts {
  kills: number;
  /** Checkpoints that were saved, and said to be. */
  saves: number;
  /** Kills between the begin and the end of a save. */
  duringSave: number;
  /** Kills that left a temporary file. */
  withTemporaryFile: number;
}

/** Lets processes save checkpoints on a real disk, kills each at a random time, and looks at what they leave. */
export async function killProcesses(
  kills: number, contents: CheckpointContents, tally: Tally, { seed = 1, onKill }: { seed?: number; onKill?: (done: number) => void } = {},
): Promise<KillFacts> {
  const facts: KillFacts = { kills: 0, saves: 0, duringSave: 0, withTemporaryFile: 0 };
  const random = new Random(seed, 1);
  const root = mkdtempSync(join(tmpdir(), "moco-kills-"));
  try {
    const contentsFolder = join(root, "contents");
    mkdirSync(contentsFolder);
    for (let number = 1; number <= CONTENTS; number++) writeFileSync(join(contentsFolder, `${number}.pth`), await contents.bytes(number));
    for (let done = 0; done < kills; done++) {
      const round = Math.floor(done / LIVES);
      const folder = join(root, `run-${round}`);
      if (done % LIVES === 0) {
        if (round > 0) rmSync(join(root, `run-${round - 1}`), { recursive: true });
        mkdirSync(folder);
        writeFileSync(join(folder, "log.jsonl"), "{}\n");
      }
      const task: ChildTask = {
        folder, contentsFolder, contents: CONTENTS, first: 1 + ((done * 13) % CONTENTS), writer: WRITERS[done % WRITERS.length]!,
        ...CONFIGURATIONS[round % CONFIGURATIONS.length]!,
      };
      await oneLife(task, random.below(LONGEST_LIFE), contents, tally, facts);
      onKill?.(done + 1);
    }
    return facts;
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

async function oneLife(task: ChildTask, lifetime: number, contents: CheckpointContents, tally: Tally, facts: KillFacts): Promise<void> {
  const { folder, retention, links, writer } = task;
  const where = `killed process, ${writer}, ${JSON.stringify(retention)}, links: ${links}`;
  const before = listingOf(folder);
  const expected = new Expectation(before, retention, (bytes) => contents.identify(bytes));
  const { lines, pid, ending } = await runUntilKilled(task, lifetime);
  for (const line of lines) {
    const [what, name, number] = line.split(" ");
    if (what === "begin") expected.begins({ name: name!, number: Number(number) });
    // What is superfluous is known from the names alone.
    else if (what === "saved") expected.saved(new Map());
  }
  const after = listingOf(folder);
  const violations = ending === "SIGKILL" ? [] : [`the child ended by itself: ${ending}`];
  violations.push(...expected.violations(after), ...leftovers(after, pid));
  for (const path of loadable(folder, after)) {
    violations.push(...(await loadingViolations(path, numberAt(path.slice(folder.length + 1), after, contents))));
  }
  tally.count("SIGKILL");
  facts.kills++;
  facts.saves += lines.filter((line) => line.startsWith("saved")).length;
  if (lines.at(-1)?.startsWith("begin")) facts.duringSave++;
  if ([...after.keys()].some((name) => temporaryOwner(name) !== null)) facts.withTemporaryFile++;
  tally.states++;
  if (before.size > 1) tally.nextRuns++;
  for (const what of violations) tally.violation({ where, fault: "SIGKILL", place: `${lifetime} ms, after ${lines.at(-1)}`, what });
}

/** `last.pth.tar`, and what a resumed run begins with. */
function loadable(folder: string, listing: Listing): string[] {
  const pointer = listing.has("last.pth.tar") ? [join(folder, "last.pth.tar")] : [];
  const any = [...listing.keys()].some((name) => /^checkpoint_.*\.pth\.tar$/.test(name));
  return any ? [...pointer, findCheckpoint(folder)] : pointer;
}

function numberAt(name: string, listing: Listing, contents: CheckpointContents): number | null {
  const entry = listing.get(name);
  if (entry?.kind === "link") return numberAt(entry.target, listing, contents);
  return entry?.kind === "file" ? contents.identify(entry.bytes) : null;
}

/** A run removes what those before it left: only the process that was killed just now may have left temporary files. */
function leftovers(listing: Listing, pid: number): string[] {
  return [...listing.keys()].flatMap((name) => {
    const owner = temporaryOwner(name);
    return owner !== null && owner.pid !== pid ? [`${name} of an earlier process is left behind`] : [];
  });
}

function runUntilKilled(task: ChildTask, lifetime: number): Promise<{ lines: string[]; pid: number; ending: string }> {
  const script = fileURLToPath(new URL("./savingChild.js", import.meta.url));
  const child = spawn(process.execPath, [script, JSON.stringify(task)], { stdio: ["ignore", "pipe", "pipe"] });
  const lines: string[] = [];
  let message = "";
  child.stderr.on("data", (data: Buffer) => (message += data.toString()));
  const output = createInterface({ input: child.stdout });
  let timer = setTimeout(() => child.kill("SIGABRT"), PATIENCE);
  output.on("line", (line) => {
    if (lines.push(line) > 1) return;
    clearTimeout(timer);
    timer = setTimeout(() => child.kill("SIGKILL"), lifetime);
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    const closed = new Promise((done) => output.on("close", done));
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      void closed.then(() => resolve({ lines, pid: child.pid!, ending: signal ?? `exit code ${code}: ${message.slice(0, 500)}` }));
    });
  });
}
