import { type Command, Option } from "commander";
import pc from "picocolors";
import type { Comparison, InspectedTensor, Inspection } from "../checkpoint/index.js";
import { ensureReady } from "../setup/index.js";
import { formatComparison, formatInspection } from "./inspectReport.js";
import { numberIn, wholeFrom } from "./numberOption.js";
import { toJson } from "./toJson.js";
import { UsageError } from "./usageError.js";

interface Flags {
  json?: boolean;
  tensors: "all" | "model" | "none";
  keys?: string[];
  limit?: number;
  encoder?: boolean;
  atol?: number;
  rtol?: number;
}

const EXAMPLES = `
Prints mean and standard deviation of every tensor (in float64, divided by n). In JSON, numbers that are not finite are null.
The exit code is 1 for a file that is refused: damaged, or asking for code, of which what can be read without running it is shown.
With OTHER, the exit code is 0 where the two are equal and 1 where they differ.

Examples:
  $ moco inspect checkpoint_0099.pth.tar
  $ moco inspect vit-s-300ep.pth.tar --keys 'module.base_encoder.blocks.0.*'
  $ moco inspect runs/photos --tensors none --json
  $ moco inspect ours.pth.tar theirs.pth.tar --rtol 1e-5
  $ moco inspect checkpoint_0099.pth.tar deit.pth --encoder`;

/** `moco inspect FILE [OTHER]` */
export function register(program: Command): void {
  program
    .command("inspect")
    .description("say what a checkpoint is, list its tensors and warn of what bites; or compare two")
    .argument("<FILE>", "checkpoint of any kind, a run's folder for its latest, or a folder of Hugging Face")
    .argument("[OTHER]", "a second one, to compare with")
    .addOption(new Option("--tensors <which>", "tensors to list or compare").choices(["all", "model", "none"]).default("all"))
    .option("--keys <pattern...>", "only tensors whose keys match: * stands for anything, ? for one character")
    .addOption(new Option("--limit <n>", "list at most so many tensors").argParser(wholeFrom(1)))
    .option("--encoder", "with OTHER: compare the encoders alone, whatever kinds the two files are")
    .addOption(new Option("--atol <difference>", "with OTHER: largest difference that counts as equal").argParser(numberIn({ least: 0 })))
    .addOption(new Option("--rtol <share>", "with OTHER: the same as a share of the second value").argParser(numberIn({ least: 0 })))
    .option("--json", "print JSON")
    .addHelpText("after", EXAMPLES)
    .action(async (file: string, other: string | undefined, flags: Flags) => {
      if (other === undefined) {
        const flag = (["encoder", "atol", "rtol"] as const).find((name) => flags[name] !== undefined);
        if (flag !== undefined) throw new UsageError(`--${flag} is for comparing; give a second file`);
      } else if (flags.tensors === "none") {
        throw new UsageError("--tensors none leaves nothing to compare; give all or model");
      }
      await ensureReady();
      if (other === undefined) await inspect(file, flags);
      else await compare(file, other, flags);
    });
}

async function inspect(file: string, { json, tensors, keys, limit }: Flags): Promise<void> {
  const { inspectCheckpoint } = await import("../checkpoint/index.js");
  const { findModel } = await import("../train/runs/checkpointFiles.js");
  const inspection = await inspectCheckpoint(await findModel(file));
  const accepts = keyFilter(keys);
  const chosen = inspection.tensors
    .filter(({ key, group }) => tensors !== "none" && (group === "model" || tensors === "all") && accepts(key));
  const shown = chosen.slice(0, limit);
  process.stdout.write(json ? `${inspectionJson(inspection, shown)}\n` : formatInspection(inspection, shown, chosen.length));
  if (inspection.refusal === null) return;
  process.stderr.write(`${pc.red("error:")} ${inspection.refusal}\n`);
  process.exitCode = 1;
}

async function compare(fileA: string, fileB: string, { json, tensors, keys, limit, encoder, atol, rtol }: Flags): Promise<void> {
  const { compareCheckpoints } = await import("../checkpoint/index.js");
  const { findModel } = await import("../train/runs/checkpointFiles.js");
  const comparison = await compareCheckpoints(await findModel(fileA), await findModel(fileB), {
    encoder, atol, rtol, modelOnly: tensors === "model", accepts: keys === undefined ? undefined : keyFilter(keys),
  });
  process.stdout.write(json ? `${comparisonJson(comparison)}\n` : formatComparison(comparison, limit));
  if (!comparison.equal) process.exitCode = 1;
}

function keyFilter(patterns: readonly string[] | undefined): (key: string) => boolean {
  if (patterns === undefined) return () => true;
  const expressions = patterns.map((pattern) => {
    const source = pattern.replaceAll(/[.+^${}()|[\]\\]/g, String.raw`\$&`).replaceAll("*", ".*").replaceAll("?", ".");
    return new RegExp(`^${source}$`, "s");
  });
  return (key) => expressions.some((expression) => expression.test(key));
}

function inspectionJson({ tensors: _, warnings, kind, arch, epoch, ...facts }: Inspection, shown: readonly InspectedTensor[]): string {
  return toJson({
    kind, arch, epoch, ...facts,
    tensors: shown.map(({ key, dtype, shape, mean, std, group, nan, infinite }) => ({ key, dtype, shape, mean, std, group, nan, infinite })),
    warnings: warnings.map(({ code, message }) => `${code}: ${message}`),
  });
}

/** JSON has no infinity; an infinite difference is the word. */
function comparisonJson(comparison: Comparison): string {
  const spoken = (value: number): number | "infinite" => (Number.isFinite(value) ? value : "infinite");
  const values = comparison.values.map((each) => ({
    ...each, maxAbsolute: spoken(each.maxAbsolute), maxRelative: spoken(each.maxRelative),
  }));
  const { largest } = comparison;
  return toJson({ ...comparison, values, largest: largest && { ...largest, maxAbsolute: spoken(largest.maxAbsolute) } });
}
