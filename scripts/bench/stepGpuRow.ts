import { median } from "./result.js";
import type { Ask, GpuSetup, Measured, Ready, Side } from "./stepGpuProtocol.js";

export interface SideResult {
  /** Of a step, one for each round. */
  seconds: number[];
  imagesPerSecond: number;
  peakBytes: number;
  reservedBytes: number;
  setupSeconds: number;
  /** Of a side that is measured apart from the others: seconds of a step of ours, in turn with it. */
  oursBeside?: number[];
}

/** A network at a batch size: what was measured, and why what was not. */
export type Row = Partial<Record<Side, SideResult>> & {
  profile?: Record<string, unknown>;
  /** `"out of memory"`, alone on the device, is final; other failures are tried again by the next run. */
  failed?: Partial<Record<Side, string>>;
  /** TFLOP/s of the matrix product in the run that measured ours. */
  matrixProductTflops?: number;
};

export interface RowPlan {
  arch: string;
  batch: number;
  sides: readonly Side[];
  setupOf(side: Side): GpuSetup;
  rounds: number;
  /** A measurement lasts about so long, in seconds; single steps of a small batch would drown in the clock's noise. */
  secondsAtOnce: number;
  /** How long a side may take to set up. */
  patience(side: Side): number;
  withProfile: boolean;
}

export const OUT_OF_MEMORY = "out of memory";

/**
 * Measures a row's sides in turn, so that a machine's slow minute falls on all. A side that fails beside the others, as for memory, is tried
 * alone after them; one that fails alone is noted, and the row goes on.
 *
 * @param row what is there already, which is not measured again, but for ours beside a side that comes later; gets what is measured
 * @param kept called whenever more of the row is there
 */
export async function measureRow(ask: Ask, plan: RowPlan, row: Row, kept: (row: Row) => void, say: (text: string) => void): Promise<void> {
  const groups = inTurns(plan.sides.filter((side) => row[side] === undefined && row.failed?.[side] !== OUT_OF_MEMORY));
  const name = `${plan.arch} ${plan.batch}`;
  for (let together = groups.shift(); together; together = groups.shift()) {
    const again = together.filter((side) => row[side] !== undefined);
    const alone = together.length === 1;
    const failed = (side: Side, why: string): void => {
      say(`${name} ${side}: ${why.split("\n")[0]}${alone ? "" : again.includes(side) ? ", again" : ", beside the others; later alone"}`);
      if (alone) (row.failed ??= {})[side] = why;
      else if (!again.includes(side)) groups.push([side]);
    };
    const measured = await measureGroup(ask, plan, together, failed);
    for (const [side, result] of measured) {
      if (again.includes(side)) continue;
      row[side] = again.includes("ours") && measured.has("ours") ? { ...result, oursBeside: measured.get("ours")!.seconds } : result;
      delete row.failed?.[side];
      const [least, most] = [Math.min(...result.seconds), Math.max(...result.seconds)].map((each) => (1000 * each).toFixed(1));
      say(`${name} ${side}: ${result.imagesPerSecond.toFixed(0)} images/s, ${least} to ${most} ms, ${(result.peakBytes / 1e9).toFixed(1)} GB`);
      if (plan.withProfile && (side === "ours" || side === "tuned")) await addProfile(ask, side, row, say);
    }
    for (const side of together) await ask(side, { do: "drop" }).catch(() => undefined); // what failed has no process to tell
    if (Object.keys(row.failed ?? {}).length === 0) delete row.failed;
    kept(row);
  }
}

async function measureGroup(
  ask: Ask, { batch, setupOf, rounds, secondsAtOnce, patience }: RowPlan, together: readonly Side[], failed: (side: Side, why: string) => void,
): Promise<Map<Side, SideResult>> {
  const steps = new Map<Side, number>();
  const results = new Map<Side, SideResult>();
  /** Null where the side failed, which is told. */
  const attempt = async <T extends Ready>(side: Side, request: Parameters<Ask>[1], seconds?: number): Promise<T | null> => {
    let why = OUT_OF_MEMORY;
    try {
      const answer = await ask<T>(side, request, seconds);
      if (!answer.outOfMemory) return answer;
    } catch (error) {
      why = (error as Error).message;
    }
    results.delete(side);
    failed(side, why);
    return null;
  };
  for (const side of together) {
    const ready = await attempt<Ready>(side, { do: "setup", ...setupOf(side) }, patience(side));
    const probe = ready && (await attempt<Measured>(side, { do: "measure", steps: 2 }));
    if (!probe) continue;
    steps.set(side, Math.max(2, Math.ceil(secondsAtOnce / probe.seconds)));
    results.set(side, { seconds: [], imagesPerSecond: 0, peakBytes: 0, reservedBytes: 0, setupSeconds: ready.seconds });
  }
  for (let round = 0; round < rounds; round++) {
    for (const [side, result] of [...results]) {
      const measured = await attempt<Measured>(side, { do: "measure", steps: steps.get(side)! });
      if (!measured) continue;
      const { seconds, peakBytes, reservedBytes } = measured;
      result.seconds.push(seconds);
      Object.assign(result, { peakBytes, reservedBytes, imagesPerSecond: batch / median(result.seconds) });
    }
  }
  return results;
}

async function addProfile(ask: Ask, side: Side, row: Row, say: (text: string) => void): Promise<void> {
  try {
    (row.profile ??= {})[side] = await ask(side, { do: "profile", steps: 5 });
  } catch (error) {
    say(`${side} gives no profile: ${(error as Error).message.split("\n")[0]}`);
  }
}

/** Groups of sides that are on the device together; each process holds one training at a time. Ours stands beside each peer. */
function inTurns(sides: readonly Side[]): Side[][] {
  const groups = [
    ["ours", "oursGraph", "tuned", "upstream"], ["oursOtherPrecision"], ["oursDeterministic"], ["oursNchw", "tunedNchw"],
  ] satisfies Side[][];
  const eager = groups.map((group) => group.filter((side) => sides.includes(side))).filter((group) => group.length > 0);
  return sides.includes("compiled") ? [...eager, ["ours", "compiled"]] : eager;
}
