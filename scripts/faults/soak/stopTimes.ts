import { spawn } from "node:child_process";
import { existsSync, linkSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as wait } from "node:timers/promises";
import { temporaryOwner } from "../../../lib/checkpoint/files/temporaryFile.js";
import { findCheckpoint } from "../../../lib/train/runs/checkpointFiles.js";
import { readRunLog } from "../../../lib/report/index.js";
import { Random } from "../../fuzz/random.js";
import { writeImages } from "./trainings.js";

/** What a training is at when it gets SIGTERM. */
const MOMENTS = ["start-up", "step", "data wait", "kNN", "background save"] as const;
type Moment = (typeof MOMENTS)[number];

export interface StopTimes {
  flags: string;
  /** Seconds from SIGTERM; `saved` until the checkpoint is on the disk (its log line, or the process's end without one), `ended` until the process was gone. */
  moments: Record<string, { signals: number; checkpoints: number; longestSaved: number; longestEnded: number; median: number }>;
  longest: number;
  violations: string[];
}

const LIMIT_SECONDS = 10;
/** A process that does not come to the moment, or to its end, is given up after so long. */
const PATIENCE_MS = 120_000;
/** Times that each labelled image is there, so that judging by kNN takes long. */
const COPIES = 10;
const FLAGS = (
  "-a vit_small -b 8 --epochs 100 --warmup-epochs 1 --optimizer adamw --lr 1.5e-4 --wd 0.1 --moco-t 0.2 --stop-grad-conv1 --moco-m-cos " +
  "--device cpu --seed 1 -j 1 -p 1"
).split(" ");

/** Sends SIGTERM to trainings of a ViT of real size at different moments, and measures how long they take. */
export async function measureStops(
  { signals, seed, onProgress = () => undefined }: { signals: number; seed: number; onProgress?: (text: string) => void },
): Promise<StopTimes> {
  const random = new Random(seed, 9);
  const root = mkdtempSync(join(tmpdir(), "moco-stops-"));
  const result: StopTimes = { flags: FLAGS.join(" "), moments: {}, longest: 0, violations: [] };
  try {
    await writeImages(root);
    writeLabelled(root);
    for (const moment of MOMENTS) {
      const times: { saved: number; ended: number; checkpoint: boolean }[] = [];
      for (let i = 0; i < signals; i++) {
        const time = await one(moment, root, random);
        times.push(time);
        for (const [name, seconds] of Object.entries({ saved: time.saved, ended: time.ended })) {
          if (seconds > LIMIT_SECONDS) result.violations.push(`${moment}: ${name} after ${seconds.toFixed(1)} s`);
        }
        if (time.checkpoint === (moment === "start-up")) result.violations.push(`${moment}: ${time.checkpoint ? "a" : "no"} checkpoint`);
        onProgress(`${moment}: ${i + 1} of ${signals}`);
      }
      const ended = times.map((time) => time.ended).sort((a, b) => a - b);
      result.moments[moment] = {
        signals, checkpoints: times.filter(({ checkpoint }) => checkpoint).length, longestSaved: Math.max(...times.map(({ saved }) => saved)),
        longestEnded: ended.at(-1)!, median: ended[ended.length >> 1]!,
      };
    }
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  result.longest = Math.max(...Object.values(result.moments).map(({ longestEnded }) => longestEnded));
  return result;
}

async function one(moment: Moment, root: string, random: Random): Promise<{ saved: number; ended: number; checkpoint: boolean }> {
  const out = join(root, "out");
  const words = ["pretrain", ...wordsOf(moment, root), ...FLAGS, "--out", out];
  const script = fileURLToPath(new URL("../../../lib/cli/main.js", import.meta.url));
  const child = spawn(process.execPath, [script, ...words], { stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
  const closed = new Promise<string>((resolve) => child.on("close", (code, signal) => resolve(signal ?? `code ${code}`)));
  const patience = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
  try {
    await arrive(moment, out, () => stderr, random);
    const sent = Date.now();
    child.kill("SIGTERM");
    const how = await closed;
    const ended = (Date.now() - sent) / 1000;
    if (!["code 0", "code 143", "SIGTERM"].includes(how)) throw new Error(`${moment}: it ended with ${how}: ${stderr}`);
    const log = existsSync(join(out, "log.jsonl")) ? readRunLog(join(out, "log.jsonl")) : null;
    const steps = log?.steps.length ?? 0;
    const newest = log?.checkpoints.at(-1) ?? null;
    // A checkpoint of the last step done is what a stop owes.
    const checkpoint = newest !== null && newest.steps === steps && existsSync(findCheckpoint(out));
    const saved = log?.end ? Math.max(0, (Date.parse(log.runs[0]!.started) - sent) / 1000 + log.end.seconds) : ended;
    return { saved: Math.min(saved, ended), ended, checkpoint };
  } finally {
    clearTimeout(patience);
    child.kill("SIGKILL");
    await closed;
    rmSync(out, { recursive: true, force: true });
  }
}

/** The images in two classes, many times. */
function writeLabelled(root: string): void {
  const photos = join(root, "photos", "all");
  for (const [i, name] of readdirSync(photos).entries()) {
    const folder = join(root, "labelled", i % 2 === 0 ? "even" : "odd");
    mkdirSync(folder, { recursive: true });
    for (let copy = 0; copy < COPIES; copy++) linkSync(join(photos, name), join(folder, `${copy}-${name}`));
  }
}

/** Data and further flags. */
function wordsOf(moment: Moment, root: string): string[] {
  const photos = join(root, "photos");
  switch (moment) {
    // A shard that comes from a program which says nothing any more after its first images.
    case "data wait": return [`pipe:cat ${join(root, "shards", "images-0.tar")}; sleep 1000`, "--images", "64", "--shuffle-buffer", "1"];
    case "kNN": return [photos, "--knn-every", "1", "--knn-data", join(root, "labelled")];
    case "background save": return [photos, "--save-every", "1steps"];
    default: return [photos];
  }
}

/** Waits until a training is at the moment, and for a random while. */
async function arrive(moment: Moment, out: string, stderr: () => string, random: Random): Promise<void> {
  const until = async (met: () => boolean): Promise<void> => {
    for (let waited = 0; !met(); waited += 5) {
      if (waited > PATIENCE_MS || stderr().includes("error:")) throw new Error(`${moment}: it did not come: ${stderr()}`);
      await wait(5);
    }
  };
  const step = (number: number): boolean => stderr().includes(`step ${number}/`);
  switch (moment) {
    case "start-up": return wait(random.below(1500));
    case "step":
      await until(() => step(1));
      return wait(random.below(2000));
    case "data wait":
      await until(() => step(2));
      return wait(4000 + random.below(1000));
    case "kNN":
      await until(() => step(6));
      return wait(1500 + random.below(1500));
    case "background save":
      await until(() => existsSync(out) && readdirSync(out).some((name) => temporaryOwner(name) !== null));
      return wait(random.below(200));
  }
}

