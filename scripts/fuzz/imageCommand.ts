import { writeFileSync } from "node:fs";
import type { Command } from "commander";
import { addCampaignFlags, type CampaignFlags } from "./campaignFlags.js";
import { imageInput, imageSeeds, runImageCampaign, type ImageCampaignResult } from "./imageCampaign.js";
import { buildDriver, libraryVersion, runInputs } from "./imageDriver.js";
import { saveImageRecord } from "./record.js";
import { sorted } from "./tally.js";

interface Flags extends CampaignFlags {
  jpegRoot?: string;
}

/** Adds `npm run fuzz -- images`. */
export function registerImages(program: Command, command: () => string): void {
  addCampaignFlags(program.command("images"), "")
    .description("Fuzz the decoding of JPEGs and the augmentation kernels, compiled with sanitizers of memory and behaviour; " +
      "the figures go to benchmarks/results/fuzz-images.json.")
    .option("--jpeg-root <folder>", "libjpeg-turbo to compile with, such as one with sanitizers of its own")
    .addHelpText("after", `
For each mutated image, decoding random boxes must end as decoding the whole picture does, with the same pixels or the same error, and
views of the boxes must be those of the whole picture. Exits with 1 when there are findings.

Examples:
  npm run fuzz -- images --minutes 10
  npm run fuzz -- images --seed 1 --input 1234 --save finding.jpg`)
    .action(async (flags: Flags) => {
      const driver = buildDriver(flags.jpegRoot);
      const findings = flags.input === undefined ? await campaign(driver, flags, command()) : await replay(driver, flags, flags.input);
      process.exitCode = findings > 0 ? 1 : 0;
    });
}

async function campaign(program: string, flags: Flags, command: string): Promise<number> {
  const options = {
    program, seed: flags.seed, from: flags.from, inputs: flags.inputs, seconds: flags.minutes * 60, workers: flags.workers,
    onProgress: (result: ImageCampaignResult) => process.stderr.write(`\r${summary(result)}`),
  };
  const result = await runImageCampaign(options);
  process.stderr.write("\r");
  console.log(summary(result));
  for (const [kind, count] of Object.entries(sorted(result.tally.kinds))) console.log(`  ${String(count).padStart(10)} ${kind}`);
  for (const { index, fault } of result.findings) console.log(`finding: --seed ${flags.seed} --input ${index}: ${fault}`);
  if (flags.record) console.log(`written: ${saveImageRecord(command, libraryVersion(program), options, result)}`);
  return result.findings.length;
}

function summary({ tally, findings, seconds }: ImageCampaignResult): string {
  const percent = ((100 * (tally.depths["decoded"] ?? 0)) / Math.max(1, tally.inputs)).toFixed(1);
  const rate = (tally.inputs / Math.max(seconds, 0.001)).toFixed(0);
  return `${tally.inputs} inputs in ${seconds.toFixed(0)} s (${rate}/s), ${percent} % decoded, ${findings.length} findings   `;
}

async function replay(program: string, { seed, save }: Flags, index: number): Promise<number> {
  const input = imageInput(imageSeeds(program), seed, index);
  console.log(`${input.strategy}, ${input.bytes.length} bytes`);
  if (save !== undefined) writeFileSync(save, input.bytes); // before anything can go wrong
  const { verdicts, death } = await runInputs(program, [input]);
  for (const { outcome, text } of verdicts) console.log(`${outcome}: ${text}`);
  if (death !== null) console.log(death);
  return death !== null || verdicts.some(({ outcome }) => outcome === "finding") ? 1 : 0;
}
