/** `npm run compare`: encoders judged by ours and by PyTorch. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Command, Option } from "commander";
import { wholeFrom } from "../../lib/cli/numberOption.js";
import { ensureReady } from "../../lib/setup/index.js";
import { dataSets, type DataName } from "./dataSets.js";
import { methodNames, type MethodName } from "./methods.js";
import { comparisonTable, isExplained } from "./table.js";

interface Flags {
  upstream: string;
  python: string;
  data: DataName[];
  methods: MethodName[];
  seeds: number;
  threads: number;
  dir?: string;
  quick?: boolean;
}

const dataNames = Object.keys(dataSets) as DataName[];

const program = new Command("compare")
  .description("Judge the same encoders by our commands and by PyTorch, over several seeds; the figures of a whole run go to benchmarks/results/compare.json.")
  .requiredOption("--upstream <dir>", "checkout of facebookresearch/moco-v3")
  .option("--python <path>", "Python with torch, torchvision and timm 0.4.9", "python3")
  .addOption(new Option("--data <names...>", "which images").choices(dataNames).default(dataNames))
  .addOption(new Option("--methods <names...>", "what is compared").choices(methodNames).default([...methodNames]))
  .addOption(new Option("--seeds <n>", "seeds of each training").argParser(wholeFrom(2, 1000)).default(5))
  .addOption(new Option("--threads <n>", "threads of one operator, on each of the two sides, which run at once").argParser(wholeFrom(1, 1024)).default(1))
  .option("--dir <dir>", "where images, encoders and accuracies are written, and found again by the next run, which goes on with what is missing; default: a temporary folder")
  .option("--quick", "few images, epochs and seeds, to see that it runs; writes no record")
  .addHelpText("after", `
Prints the table of docs/evaluation.md. Exits with 1 where a training is further apart than seeds and images explain, or kNN differs.

Examples:
  $ npm run compare -- --python venv/bin/python --upstream ../moco-v3
  $ npm run compare -- --python venv/bin/python --upstream ../moco-v3 --data digits --methods knn lincls`)
  .action(async ({ dir, ...flags }: Flags) => {
    await ensureReady();
    const { runComparison } = await import("./runComparison.js");
    const { saveResult } = await import("../bench/result.js");
    const folder = dir === undefined ? mkdtempSync(join(tmpdir(), "moco-compare-")) : resolve(dir);
    mkdirSync(folder, { recursive: true });
    try {
      const started = performance.now();
      const result = await runComparison({
        ...flags, upstream: resolve(flags.upstream), folder, quick: flags.quick ?? false, onProgress: (text) => {
          const seconds = (performance.now() - started) / 1000;
          process.stderr.write(`${seconds.toFixed(0).padStart(5)} s  ${text}\n`);
        },
      });
      process.stdout.write(comparisonTable(result.comparisons));
      const isWhole = dataNames.every((name) => flags.data.includes(name)) && methodNames.every((name) => flags.methods.includes(name));
      if (isWhole && !flags.quick) process.stderr.write(`written: ${saveResult(result)}\n`);
      process.exitCode = result.comparisons.every(isExplained) ? 0 : 1;
    } finally {
      if (dir === undefined) rmSync(folder, { recursive: true, force: true });
    }
  });

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`error: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
