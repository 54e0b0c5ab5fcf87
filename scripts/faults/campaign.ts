import { CheckpointContents } from "./checkpointContents.js";
import { fillDisks, type FullDiskReport } from "./fullDisk.js";
import { killProcesses, type KillFacts } from "./killedProcesses.js";
import { MISTAKES } from "./mistakes.js";
import { SCENARIOS, type Scenario } from "./scenarios.js";
import { Simulation } from "./simulation.js";
import { Tally, type Violation } from "./tally.js";
import { wholeWriter } from "./wholeWriter.js";
import { ours } from "./writers.js";

export interface CampaignOptions {
  seed: number;
  /** Processes to kill. */
  kills: number;
  /** Times that each small disk is filled. */
  fills: number;
  onProgress?: (text: string) => void;
}

export interface CampaignResult {
  /** Faults by kind: simulated ones, `SIGKILL` of real processes, `ENOSPC` of real disks. */
  faults: Record<string, number>;
  total: number;
  states: number;
  nextRuns: number;
  killedProcesses: KillFacts;
  fullDisks: FullDiskReport[];
  /** Writers with a mistake, and whether the campaign caught each. */
  mistakes: Record<string, boolean>;
  violationCount: number;
  violations: Violation[];
}

/** The scenario in which every mistake can show. */
const ALL_MISTAKES_SHOW = "keep 2, keep every 3";
/** The scenario that is tried with the writer of checkpoints itself as well, whose many small writes can each go wrong. */
const WHOLE_WRITER = "keep 2, mid-epoch checkpoints";

/** Injects every fault into the saving of checkpoints, and looks at what each leaves. */
export async function runFaultCampaign({ seed, kills, fills, onProgress = () => undefined }: CampaignOptions): Promise<CampaignResult> {
  const tally = new Tally();
  const contents = new CheckpointContents();
  for (const scenario of SCENARIOS) {
    onProgress(`simulated: ${scenario.name}`);
    await new Simulation(scenario, contents, tally, ours, { seed }).run();
  }
  onProgress("simulated: writeCheckpoint");
  await new Simulation(scenarioNamed(WHOLE_WRITER), contents, tally, wholeWriter(), { seed }).run();
  onProgress("writers with mistakes");
  const mistakes = await catchMistakes(contents);
  const killedProcesses = await killProcesses(kills, contents, tally, { seed, onKill: (done) => onProgress(`${done} processes killed`) });
  onProgress("full disks");
  const fullDisks = fillDisks(fills, tally, seed);
  const { faults, total, states, nextRuns, violationCount, violations } = tally;
  return { faults, total, states, nextRuns, killedProcesses, fullDisks, mistakes, violationCount, violations };
}

/** Whether the simulation catches each writer that has a mistake. */
export async function catchMistakes(contents: CheckpointContents): Promise<Record<string, boolean>> {
  const caught: Record<string, boolean> = {};
  for (const [name, { writer, caughtAs }] of Object.entries(MISTAKES)) {
    const simulation = new Simulation(scenarioNamed(ALL_MISTAKES_SHOW), contents, new Tally(), writer, { until: caughtAs });
    caught[name] = await simulation.run();
  }
  return caught;
}

function scenarioNamed(name: string): Scenario {
  const scenario = SCENARIOS.find((each) => each.name === name);
  if (scenario === undefined) throw new Error(`there is no scenario "${name}"`);
  return scenario;
}
