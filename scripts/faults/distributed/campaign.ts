import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NetworkHosts } from "../../../test/support/networkHosts.js";
import { Random } from "../../fuzz/random.js";
import { disturb, FAULTS, SPLITS, STEPS_PER_EPOCH, type Disturbance, type Fault } from "./disturbance.js";

export interface CampaignOptions {
  count: number;
  seed: number;
  /** Trainings at once, each on two network namespaces of its own. */
  lanes: number;
  /** The watchdog's limit, in seconds, in two thirds of the trainings. */
  shortLimit: number;
  /** That in the others. Default: the watchdog's own default, 30. */
  limit?: number;
  epochs: number;
  paceMs: number;
  /** Only these. Default: all, in rotation. */
  faults?: readonly Fault[];
  onDone?(done: Disturbance): void;
}

export interface CampaignResult {
  reference: Record<string, string>;
  disturbances: Disturbance[];
  violations: string[];
}

const IMAGES = 60;
const DEFAULT_LIMIT = 30;

/** Disturbs trainings in every way, and compares their ends with those of undisturbed ones. */
export async function runDistributedCampaign(options: CampaignOptions): Promise<CampaignResult> {
  const { count, seed, lanes, shortLimit, epochs, paceMs, faults = FAULTS, limit = DEFAULT_LIMIT, onDone } = options;
  const folder = mkdtempSync(join(tmpdir(), "moco-faults-"));
  const random = new Random(seed, 0);
  const data = join(folder, "images");
  writeImages(data);
  using all = new NetworkHosts(2 * lanes);
  const hostsOf = (lane: number) => ({
    address: (machine: number) => all.address(2 * lane + machine),
    on: (machine: number, words: readonly string[]) => [...all.on(2 * lane + machine, words)],
  });
  const reference: Record<string, string> = {};
  const disturbances: Disturbance[] = [];
  const violations: string[] = [];
  const inLanes = async <T>(work: readonly T[], run: (each: T, lane: number, i: number) => Promise<void>): Promise<void> => {
    let next = 0;
    await Promise.all(Array.from({ length: lanes }, async (_, lane) => {
      for (let i = next++; i < work.length; i = next++) await run(work[i]!, lane, i);
    }));
  };
  try {
    const last = Math.floor(0.6 * epochs * STEPS_PER_EPOCH);
    const plan = Array.from({ length: count }, (_, i) => ({
      fault: faults[i % faults.length]!, split: SPLITS[(i + Math.floor(i / faults.length)) % SPLITS.length]!,
      watchdogSeconds: i % 3 === 0 ? limit : shortLimit, atStep: 2 + random.below(last), draw: random.below(1000),
    }));
    const splits = SPLITS.filter((split) => plan.some((each) => each.split === split));
    const common = { data, epochs, paceMs };
    await inLanes(splits, async (split, lane, i) => {
      const undisturbed = await disturb({
        ...common, hosts: hostsOf(lane), fault: null, split, watchdogSeconds: DEFAULT_LIMIT, folder: join(folder, `reference-${i}`), atStep: 0, draw: 0,
      });
      violations.push(...undisturbed.violations);
      reference[split.join("+")] = undisturbed.checkpoint;
    });
    await inLanes(plan, async (each, lane, i) => {
      const done = await disturb({ ...common, ...each, hosts: hostsOf(lane), folder: join(folder, String(i)) });
      if (done.checkpoint !== reference[each.split.join("+")]) done.violations.push(`it ended with ${done.checkpoint}, which is not the undisturbed end`);
      violations.push(...done.violations.map((what) => `${i}: ${each.fault}: ${what}`));
      disturbances.push(done);
      rmSync(join(folder, String(i)), { recursive: true });
      onDone?.(done);
    });
    return { reference, disturbances, violations };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Small pictures in a format that needs no writer. */
function writeImages(folder: string): void {
  mkdirSync(folder);
  const random = new Random(11, 0);
  for (let i = 0; i < IMAGES; i++) {
    const side = 20 + random.below(8);
    const pixels = Buffer.from(Array.from({ length: 3 * side * side }, () => random.below(256)));
    writeFileSync(join(folder, `${String(i).padStart(2, "0")}.ppm`), Buffer.concat([Buffer.from(`P6\n${side} ${side}\n255\n`), pixels]));
  }
}
