import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Random } from "../../fuzz/random.js";
import { Tally, type Violation } from "../tally.js";
import { differences, distanceBetween, logViolations, unreadableLog, type Distance } from "./comparison.js";
import { live, type Life, type Stop } from "./life.js";
import { PoweredFolder } from "./powerCut.js";
import { EPOCHS, imagesOf, ROUNDING, TRAININGS, writeImages, type SoakTraining } from "./trainings.js";

export interface SoakOptions {
  /** Processes to stop. */
  kills: number;
  seed: number;
  /** Default: all. */
  trainings?: readonly SoakTraining[];
  onProgress?: (text: string) => void;
}

export interface SoakResult {
  kills: number;
  /** Kills by kind, and by what the process was at. */
  stops: Record<string, number>;
  phases: Record<string, number>;
  /** Runs that came to their end, by training, how many kills they had survived, and how they compare with the undisturbed one. */
  runs: Record<string, { ended: number; kills: number; equal: number; distance: Distance | null }>;
  powerCuts: { states: number; unsafeNames: number; unsafeBytes: number };
  /** From SIGTERM or SIGINT to the end of the process, in seconds. */
  secondsToStop: { signals: number; median: number; longest: number };
  violationCount: number;
  violations: Violation[];
}

/** How often each way to stop is taken, of ten. */
const KINDS: readonly Stop[] = ["SIGKILL", "SIGKILL", "SIGKILL", "SIGTERM", "SIGTERM", "SIGINT", "power", "power", "power", "power"];
/** A process is stopped somewhere in so many times the duration of an undisturbed run, so that some are not stopped at all. */
const LONGEST = 1.1;
const LAST = `checkpoint_${String(EPOCHS - 1).padStart(4, "0")}.pth.tar`;
/** Limit of the project's promise, from a signal to the end. */
const STOP_SECONDS = 10;

/**
 * Starts trainings with `--auto-resume`, stops each process at a random time of its life in one of four ways, starts it again until it
 * comes to its end, and compares that with the end of a run that nobody disturbed.
 */
export async function soak({ kills, seed, trainings = TRAININGS, onProgress = () => undefined }: SoakOptions): Promise<SoakResult> {
  const random = new Random(seed, 7);
  const tally = new Tally();
  const root = mkdtempSync(join(tmpdir(), "moco-soak-"));
  const result: SoakResult = {
    kills: 0, stops: {}, phases: {}, runs: {}, powerCuts: { states: 0, unsafeNames: 0, unsafeBytes: 0 },
    secondsToStop: { signals: 0, median: 0, longest: 0 }, violationCount: 0, violations: [],
  };
  const times: number[] = [];
  try {
    await writeImages(root);
    const undisturbed = new Map<SoakTraining, { out: string; seconds: number }>();
    for (let round = 0; result.kills < kills; round++) {
      const training = trainings[round % trainings.length]!;
      if (!undisturbed.has(training)) undisturbed.set(training, await undisturbedRun(training, root, undisturbed.size));
      const { out: expected, seconds } = undisturbed.get(training)!;
      const out = join(root, `run-${round}`);
      const folder = new PoweredFolder(out, join(root, "scratch"));
      const record = (result.runs[training.name] ??= { ended: 0, kills: 0, equal: 0, distance: null });
      let finished = false;
      let survived = 0;
      for (let number = 0; !finished; number++) {
        // The last run is brought to its end undisturbed.
        const stop = result.kills < kills ? random.pick(KINDS) : null;
        const afterMs = random.below(1000 * seconds * LONGEST);
        const life = await live(folder.nodeArguments, wordsOf(training, root, out, random), out, stop, afterMs);
        const place = `process ${number} of run ${round}, stopped by ${life.stop ?? "nobody"} (${life.phase ?? "-"}) after ${afterMs} ms`;
        const report = (whats: readonly string[]): void => {
          for (const what of whats) tally.violation({ where: training.name, fault: life.stop ?? "none", place, what });
        };
        report(lifeViolations(life));
        if (life.stop !== null) {
          result.kills++;
          survived++;
          add(result.stops, life.stop);
          add(result.phases, life.phase!);
          if (life.stop === "SIGTERM" || life.stop === "SIGINT") times.push(life.secondsToStop!);
        }
        if (life.stop === "power") {
          const cut = folder.cut(random);
          for (const key of ["states", "unsafeNames", "unsafeBytes"] as const) result.powerCuts[key] += cut[key];
        }
        report(unreadableLog(out));
        finished = existsSync(join(out, LAST)) && life.code === 0 && (life.stop === null || ended(out));
        if (!finished && life.stop === null) break; // it failed, which is told already
        onProgress(`${result.kills} of ${kills} processes stopped, ${round} runs ended, ${tally.violationCount} violations`);
      }
      if (finished) {
        record.ended++;
        record.kills += survived;
        const place = `the end of run ${round}, after ${survived} kills`;
        const found = logViolations(out, expected, training.equal === "bytes");
        if (training.equal === "bytes") {
          const other = differences(out, expected);
          found.push(...other);
          if (other.length === 0) record.equal++;
        } else {
          const { weights, losses } = await distanceBetween(out, expected, LAST);
          const before = record.distance ?? { weights: 0, losses: 0 };
          record.distance = { weights: Math.max(weights, before.weights), losses: Math.max(losses, before.losses) };
          if (!(Math.max(weights, losses) <= ROUNDING)) found.push(`the end is ${weights} away in its weights and ${losses} in its losses, which is no rounding`);
        }
        for (const what of found) tally.violation({ where: training.name, fault: "all", place, what });
      }
      rmSync(out, { recursive: true, force: true });
    }
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  times.sort((a, b) => a - b);
  const { violationCount, violations } = tally;
  return {
    ...result, secondsToStop: { signals: times.length, median: times[times.length >> 1] ?? 0, longest: times.at(-1) ?? 0 }, violationCount, violations,
  };
}

async function undisturbedRun(training: SoakTraining, root: string, number: number): Promise<{ out: string; seconds: number }> {
  const out = join(root, `undisturbed-${number}`);
  mkdirSync(out);
  const words = [...training.launch, "pretrain", imagesOf(root, training), ...training.flags, "-j", "1", "--out", out, "--quiet"];
  const life = await live([], training.flags.includes("--threads") ? words : [...words, "--threads", "1"], out, null, 0);
  if (life.code !== 0) throw new Error(`the undisturbed run of ${training.name} failed: ${life.stderr}`);
  return { out, seconds: life.seconds };
}

function wordsOf(training: SoakTraining, root: string, out: string, random: Random): string[] {
  return [
    ...training.launch, "pretrain", imagesOf(root, training), ...training.flags, ...training.drawn(random), "--out", out, "--auto-resume", "--quiet",
  ];
}

function lifeViolations({ code, signal, stderr, stop, secondsToStop }: Life): string[] {
  const found: string[] = [];
  const end = signal ?? `code ${code}`;
  const expected = stop === null ? ["code 0"]
    : stop === "SIGKILL" || stop === "power" ? ["SIGKILL", "code 0"] // it may have ended just before
    : [stop, "code 0", `code ${stop === "SIGINT" ? 130 : 143}`];
  if (!expected.includes(end)) found.push(`it ended with ${end}: ${stderr.slice(-600)}`);
  if (stderr.includes("is damaged")) found.push(`a checkpoint was damaged: ${stderr.slice(0, 600)}`);
  if (stop !== "SIGKILL" && stop !== "power" && secondsToStop !== null && secondsToStop > STOP_SECONDS) {
    found.push(`it took ${secondsToStop.toFixed(1)} s to stop`);
  }
  return found;
}

/** Whether the log says that the run is finished. */
function ended(out: string): boolean {
  if (!readdirSync(out).includes("log.jsonl")) return false;
  return readFileSync(join(out, "log.jsonl"), "utf8").trimEnd().split("\n").at(-1)!.includes('"reason":"finished"');
}

function add(counts: Record<string, number>, key: string): void {
  counts[key] = (counts[key] ?? 0) + 1;
}
