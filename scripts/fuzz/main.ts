/** `npm run fuzz -- NAME`: the fuzzers, and the campaign of injected faults. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { registerFaults } from "../faults/command.js";
import { runCampaign, type CampaignOptions, type CampaignResult } from "./campaign.js";
import { addCampaignFlags, number, type CampaignFlags } from "./campaignFlags.js";
import { examine } from "./examine.js";
import type { FuzzTarget } from "./fuzzTarget.js";
import { registerImages } from "./imageCommand.js";
import { measureMemory } from "./memoryCampaign.js";
import { Random } from "./random.js";
import { saveMemoryRecord, saveRecord } from "./record.js";
import { shrink } from "./shrink.js";
import { sorted } from "./tally.js";
import { targets } from "./targets.js";

const program = new Command("fuzz").description("Feeds damaged and hostile files to the readers of checkpoints and images.");

for (const name of Object.keys(targets)) {
  addCampaignFlags(program.command(name), ", made as small as the same fault allows")
    .description(`Fuzz the reader of ${name} files; the figures go to benchmarks/results/fuzz-${name}.json.`)
    .addHelpText("after", `
Exits with 1 when there are findings.

Examples:
  npm run fuzz -- ${name} --minutes 10
  npm run fuzz -- ${name} --seed 1 --input 123456 --save finding.${(targets[name] as () => FuzzTarget)().extension}`)
    .action(async (flags: CampaignFlags) => {
      const findings = flags.input === undefined ? await campaign(name, flags) : await replay(name, flags);
      process.exitCode = findings > 0 ? 1 : 0;
    });
}

registerFaults(program);
registerImages(program, command);

program.command("memory")
  .description("Read large files made to take as much memory as they can; the figures go to benchmarks/results/fuzz-memory.json.")
  .option("--megabytes <n>", "size of the files", number, 40)
  .option("--only <text>", "kinds of file whose name holds this")
  .option("--no-record", "write no record")
  .addHelpText("after", `
Exits with 1 when a file took more than twice its size and 64 MiB.

Example:
  npm run fuzz -- memory --only tuples`)
  .action((flags: { megabytes: number; only?: string; record: boolean }) => {
    const figures = measureMemory(flags.megabytes, flags.only, ({ kind, fileBytes, rise, limit, refused, seconds }) => console.log(
      `${(100 * rise / limit).toFixed(0).padStart(4)} % of the limit, ${(fileBytes / 1e6).toFixed(1)} MB, ${seconds.toFixed(1)} s, ` +
      `${refused === null ? "read" : "refused"}: ${kind}`));
    if (flags.record) console.log(`written: ${saveMemoryRecord(command(), figures)}`);
    process.exitCode = figures.some(({ rise, limit }) => rise > limit) ? 1 : 0;
  });

await program.parseAsync();

function command(): string {
  return `npm run fuzz -- ${process.argv.slice(2).join(" ")}`;
}

async function campaign(target: string, flags: CampaignFlags): Promise<number> {
  const options: CampaignOptions = {
    target, seed: flags.seed, from: flags.from, inputs: flags.inputs, seconds: flags.minutes * 60, workers: flags.workers,
    onProgress: (result) => process.stderr.write(`\r${summary(result)}`),
  };
  const result = await runCampaign(options);
  process.stderr.write("\r");
  console.log(summary(result));
  for (const [kind, count] of Object.entries(sorted(result.tally.kinds))) console.log(`  ${String(count).padStart(10)} ${kind}`);
  const seen = new Map<string, number>();
  for (const { index, fault } of result.findings) {
    const alike = fault.replace(/\d+/g, "0").slice(0, 80);
    if (!seen.has(alike)) console.log(`finding: --seed ${flags.seed} --input ${index}: ${fault}`);
    seen.set(alike, (seen.get(alike) ?? 0) + 1);
  }
  const all = result.findings.length;
  if (all > seen.size) console.log(`${all} findings in all, ${seen.size} of them shown: the others are alike`);
  if (flags.record) console.log(`written: ${saveRecord(command(), options, result)}`);
  return result.findings.length;
}

function summary({ tally, findings, seconds, memoryRatio }: CampaignResult): string {
  const percent = (depth: string): string => `${((100 * (tally.depths[depth] ?? 0)) / Math.max(1, tally.inputs)).toFixed(1)} %`;
  const rate = (tally.inputs / Math.max(seconds, 0.001)).toFixed(0);
  return `${tally.inputs} inputs in ${seconds.toFixed(0)} s (${rate}/s), ${percent("value")} read, ${percent("container")} refused by ` +
    `the container, memory ${(100 * memoryRatio).toFixed(0)} % of the limit, ${findings.length} findings   `;
}

/** Runs one input, and makes it smaller when it shows a fault. Hangs and crashes happen here too: that is what it is for. */
async function replay(name: string, flags: CampaignFlags): Promise<number> {
  const target = (targets[name] as () => FuzzTarget)();
  const input = target.input(new Random(flags.seed, Number(flags.input)));
  console.log(`${input.strategy}, ${input.bytes.length} bytes, ${JSON.stringify(input.options)}`);
  if (flags.save !== undefined) writeFileSync(flags.save, input.bytes); // before anything can go wrong
  const folder = mkdtempSync(join(tmpdir(), "moco-fuzz-"));
  try {
    const { depth, kind, fault } = await examine(input, target, folder);
    console.log(fault === null ? `${kind} (${depth})` : `finding: ${fault}`);
    if (fault === null || flags.save === undefined) return fault === null ? 0 : 1;
    const same = async (bytes: Buffer): Promise<boolean> => {
      const outcome = await examine({ ...input, bytes }, target, folder);
      return outcome.fault?.slice(0, 40) === fault.slice(0, 40);
    };
    const smallest = await shrink(input, same);
    writeFileSync(flags.save, smallest);
    console.log(`written: ${flags.save}, ${smallest.length} bytes`);
    return 1;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
