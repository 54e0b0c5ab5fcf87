import { mkdirSync, writeFileSync } from "node:fs";
import { arch, cpus, platform, release, totalmem } from "node:os";
import { join } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { packageRoot } from "../../lib/setup/packageRoot.js";
import { version } from "../../lib/torch/index.js";
import { runFaultCampaign, type CampaignResult } from "./campaign.js";

interface Flags {
  seed: number;
  kills: number;
  fills: number;
  record: boolean;
}

/** `npm run fuzz -- faults` */
export function registerFaults(program: Command): void {
  program.command("faults")
    .description("Kill, starve and fail the saving of checkpoints at every step; the figures go to benchmarks/results/faults.json.")
    .option("--seed <n>", "another seed draws other crash states and times", count, 1)
    .option("--kills <n>", "processes to kill", count, 400)
    .option("--fills <n>", "times that each small disk is filled", count, 60)
    .option("--no-record", "write no record")
    .addHelpText("after", `
Exits with 1 when a checkpoint was lost, or a writer with a mistake not caught.

Example:
  npm run fuzz -- faults`)
    .action(async (flags: Flags) => {
      const result = await runFaultCampaign({
        ...flags, onProgress: (text) => { if (process.stderr.isTTY) process.stderr.write(`\r${text.padEnd(60)}`); },
      });
      if (process.stderr.isTTY) process.stderr.write("\r");
      print(result);
      if (flags.record) console.log(`written: ${save(result, flags)}`);
      const missed = Object.values(result.mistakes).includes(false);
      process.exitCode = result.violationCount > 0 || missed ? 1 : 0;
    });
}

function count(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("expected a whole number from 0");
  return Number(text);
}

function print(result: CampaignResult): void {
  for (const [fault, times] of Object.entries(result.faults)) console.log(`${String(times).padStart(8)} ${fault}`);
  const { total, states, nextRuns, killedProcesses: { saves, duringSave } } = result;
  console.log(`${String(total).padStart(8)} faults, ${states} states of the folder checked, ${nextRuns} runs went on afterwards`);
  console.log(`the killed processes had saved ${saves} checkpoints; ${duringSave} were killed during a save`);
  for (const { skipped } of result.fullDisks) if (skipped !== null) console.log(`skipped: full disk (${skipped})`);
  const mistakes = Object.entries(result.mistakes);
  console.log(`${mistakes.filter(([, caught]) => caught).length} of ${mistakes.length} writers with a mistake caught`);
  for (const [name, caught] of mistakes) if (!caught) console.log(`not caught: ${name}`);
  console.log(`${result.violationCount} violations`);
  for (const { where, fault, place, what } of result.violations) console.log(`violation: ${where}: ${fault} at ${place}: ${what}`);
}

function save(result: CampaignResult, { seed, kills, fills }: Flags): string {
  const folder = join(packageRoot, "benchmarks", "results");
  mkdirSync(folder, { recursive: true });
  const path = join(folder, "faults.json");
  const record = {
    name: "faults",
    command: ["npm run fuzz --", ...process.argv.slice(2)].join(" "),
    date: new Date().toISOString().slice(0, 10),
    machine: {
      cpu: cpus()[0]?.model ?? "unknown", cores: cpus().length, memoryGiB: Math.round(totalmem() / 2 ** 30),
      system: `${platform()} ${arch()} ${release()}`,
    },
    versions: { node: process.versions.node, libtorch: version().libtorch },
    settings: { seed, kills, fills },
    ...result,
  };
  writeFileSync(path, `${JSON.stringify(record, null, 2)}\n`);
  return path;
}
