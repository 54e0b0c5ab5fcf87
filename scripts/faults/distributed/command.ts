import { type Command, InvalidArgumentError } from "commander";
import { ensureReady } from "../../../lib/setup/index.js";
import { describeRun, saveResult } from "../../bench/result.js";

interface Flags {
  count: number;
  seed: number;
  lanes: number;
  shortLimit: number;
  epochs: number;
  pace: number;
  record: boolean;
}

/** `npm run faults -- distributed` */
export function registerDistributed(program: Command): void {
  program.command("distributed")
    .description(
      "Kill, stop and cut off the processes and launchers of trainings on two machines (network namespaces; needs root); the figures go to " +
        "benchmarks/results/faults-distributed.json.",
    )
    .option("--count <n>", "trainings to disturb", whole, 50)
    .option("--seed <n>", "another seed draws other moments and ranks", whole, 1)
    .option("--lanes <n>", "trainings at once", whole, 2)
    .option("--short-limit <seconds>", "the watchdog's limit in two thirds of the trainings; the others have the default, 30", whole, 5)
    .option("--epochs <n>", "epochs of five steps", whole, 20)
    .option("--pace <ms>", "how long each step waits", whole, 40)
    .option("--no-record", "write no record")
    .addHelpText("after", "\nExits with 1 when one did not come to the end that it would have had.\n\nExample:\n  npm run faults -- distributed --count 50")
    .action(async ({ count, seed, lanes, shortLimit, epochs, pace, record }: Flags) => {
      await ensureReady();
      const { runDistributedCampaign } = await import("./campaign.js");
      const options = { count, seed, lanes, shortLimit, epochs, paceMs: pace };
      const result = await runDistributedCampaign({
        ...options,
        onDone: ({ fault, processes, watchdogSeconds, noticedSeconds, seconds, violations }) => console.log(
          `${fault}, ${processes} processes, limit ${watchdogSeconds} s: noticed after ${noticedSeconds?.toFixed(1)} s, done after ${seconds.toFixed(1)} s` +
            violations.map((what) => `\n  VIOLATION: ${what}`).join("")),
      });
      const sound = result.disturbances.filter(({ violations }) => violations.length === 0).length;
      console.log(`${sound} of ${result.disturbances.length} trainings came to the same end`);
      if (record) {
        const command = `npm run faults -- ${process.argv.slice(2).join(" ")}`;
        const record = { ...describeRun("faults-distributed", null, options), command, sound, ...result };
        console.log(`written: ${saveResult(record)}`);
      }
      process.exitCode = result.violations.length > 0 ? 1 : 0;
    });
}

function whole(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("expected a whole number");
  return Number(text);
}
