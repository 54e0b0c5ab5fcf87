import { mkdirSync, writeFileSync, existsSync, readFileSync } from "node:fs";
import { arch, cpus, platform, release, totalmem } from "node:os";
import { join } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { packageRoot } from "../../../lib/setup/packageRoot.js";
import { version } from "../../../lib/torch/index.js";
import { soak } from "./soak.js";
import { measureStops } from "./stopTimes.js";

/** `npm run faults -- soak` and `npm run faults -- stop-times`, which write into the same record. */
export function registerSoak(program: Command): void {
  program.command("soak")
    .description("Stop trainings at random times, by SIGKILL, SIGTERM, SIGINT and power cuts, and compare their ends with undisturbed ones.")
    .option("--kills <n>", "processes to stop", count, 200)
    .option("--seed <n>", "another seed draws other times", count, 1)
    .option("--no-record", "write no record")
    .addHelpText("after", `
The figures go to benchmarks/results/faults-soak.json. Exits with 1 when anything was lost or came out otherwise.

Example:
  npm run faults -- soak --kills 200`)
    .action(async ({ kills, seed, record }: { kills: number; seed: number; record: boolean }) => {
      const started = performance.now();
      const result = await soak({ kills, seed, onProgress: progress });
      console.log(JSON.stringify(result, null, 2));
      const minutes = Math.round((performance.now() - started) / 6000) / 10;
      if (record) console.log(`written: ${save("soak", { settings: { kills, seed }, minutes, ...result })}`);
      process.exitCode = result.violationCount > 0 ? 1 : 0;
    });

  program.command("stop-times")
    .description("Measure the time from SIGTERM to a checkpoint on the disk and the end of the process, vit_small at 224 pixels on the CPU.")
    .option("--signals <n>", "signals for each moment", count, 6)
    .option("--seed <n>", "another seed draws other times", count, 1)
    .option("--no-record", "write no record")
    .addHelpText("after", `
The figures go to benchmarks/results/faults-soak.json. Exits with 1 when one took longer than 10 s.

Example:
  npm run faults -- stop-times --signals 6`)
    .action(async ({ signals, seed, record }: { signals: number; seed: number; record: boolean }) => {
      const result = await measureStops({ signals, seed, onProgress: progress });
      console.log(JSON.stringify(result, null, 2));
      if (record) console.log(`written: ${save("stopTimes", { settings: { signals, seed }, ...result })}`);
      process.exitCode = result.violations.length > 0 ? 1 : 0;
    });
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r${text.padEnd(80)}`);
}

function count(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("expected a whole number from 0");
  return Number(text);
}

/** Replaces one part of the record. */
function save(part: "soak" | "stopTimes", figures: object): string {
  const folder = join(packageRoot, "benchmarks", "results");
  mkdirSync(folder, { recursive: true });
  const path = join(folder, "faults-soak.json");
  const before = existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Record<string, object>) : { name: "faults-soak" };
  const machine = {
    cpu: cpus()[0]?.model ?? "unknown", cores: cpus().length, memoryGiB: Math.round(totalmem() / 2 ** 30), system: `${platform()} ${arch()} ${release()}`,
  };
  const record = {
    ...before,
    [part]: {
      command: ["npm run faults --", ...process.argv.slice(2)].join(" "), date: new Date().toISOString().slice(0, 10), machine,
      versions: { node: process.versions.node, libtorch: version().libtorch }, ...figures,
    },
  };
  writeFileSync(path, `${JSON.stringify(record, null, 2)}\n`);
  return path;
}
