import { type Command, Option } from "commander";
import { ensureReady } from "../setup/index.js";
import { UsageError } from "./usageError.js";
import { wholeFrom } from "./numberOption.js";

const NAMES = ["checkpoint", "data", "distributed", "end2end", "functions", "micro-batch", "ops", "plan", "scale", "serve", "step", "step-gpu", "watch"] as const;
const REDRAW = "chart";

interface Flags {
  python: string;
  upstream?: string;
  threads: number;
  rounds: number;
  quick?: boolean;
  only?: string;
  compile: boolean;
  device: string;
  sides?: string;
  dir?: string;
  json?: boolean;
}

/** `moco bench NAME` */
export function register(program: Command): void {
  program
    .command("bench")
    .description("measure our speed and memory beside PyTorch's or upstream's, in one run, as ratios")
    .argument("<name>", `which benchmark: ${NAMES.join(", ")}; or ${REDRAW}, which draws the tables and charts of the recorded results anew`)
    .option("--python <path>", "Python with torch 2.11, the peer; both sides then use its libtorch", "python3")
    .option("--upstream <dir>", "checkout of facebookresearch/moco-v3 (step; data, end2end and step-gpu where given); its Python also needs torchvision and, but for data, timm 0.4.9")
    .addOption(new Option("--threads <n>", "threads of one operator").argParser(wholeFrom(1, 1024)).default(2))
    .addOption(new Option("--rounds <n>", "measurements of each side").argParser(wholeFrom(1, 1000)).default(5))
    .option("--dir <dir>", "where measured files are written and removed again (checkpoint: 6 GB, data: 15 MB); default: the system's temporary folder. Of step-gpu: where rows are kept for the next run; default: build/step-gpu")
    .option("--only <list>", "of step, end2end and plan: architectures; of step-gpu: also with batches, such as vit_small:256; of micro-batch: step, equality, batch-norm, large; separated by commas")
    .option("--no-compile", "of step and step-gpu: not beside torch.compile, which takes minutes")
    .option("--device <device>", "of end2end: where the network is trained, cpu or cuda", "cpu")
    .option("--sides <list>", "of step-gpu: what is measured, of ours, oursGraph, oursNchw, oursOtherPrecision, oursDeterministic, upstream, tuned, tunedNchw, compiled")
    .option("--quick", "a small batch or model, to see that it runs")
    .option("--json", "print the whole result as JSON instead of writing benchmarks/results/NAME.json, its table NAME.md and its chart NAME.svg")
    .addHelpText("after", "\nExample:\n  $ moco bench step --python venv/bin/python --upstream ../moco-v3")
    .action(async (name: string, flags: Flags) => {
      if (name === REDRAW) {
        const { redraw } = await import("../../scripts/bench/records.js");
        for (const path of await redraw()) process.stdout.write(`written to ${path}\n`);
        return;
      }
      if (!(NAMES as readonly string[]).includes(name)) throw new UsageError(`there is no benchmark "${name}"; choose one of ${NAMES.join(", ")}, ${REDRAW}`);
      await ensureReady();
      const { benchmarks, recordResult } = await import("../../scripts/bench/index.js");
      const result = await benchmarks[name as (typeof NAMES)[number]]!({ ...flags, quick: flags.quick ?? false });
      if (flags.json) {
        process.stdout.write(`${JSON.stringify(result)}\n`);
        return;
      }
      const width = Math.max(...Object.keys(result.ratios).map((key) => key.length));
      for (const [figure, ratio] of Object.entries(result.ratios)) {
        process.stdout.write(`${figure.padEnd(width)}  ${ratio.toFixed(3)} ${result.meanings?.[figure] ?? "x the peer's"}\n`);
      }
      const paths = await recordResult(result, (message) => process.stderr.write(`no chart: ${message}\n`));
      for (const path of paths) process.stdout.write(`written to ${path}\n`);
    });
}
