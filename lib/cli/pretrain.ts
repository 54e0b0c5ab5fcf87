import { join } from "node:path";
import type { Command } from "commander";
import pc from "picocolors";
import { readConfig } from "../config.js";
import type { TrainingProgress } from "../report/index.js";
import { ensureReady } from "../setup/index.js";
import type { PretrainHooks, PretrainResult } from "../train/pretrain.js";
import type { PretrainOptions } from "../train/pretrainOptions.js";
import { applyConfigFile } from "./configFile.js";
import { counted } from "./counted.js";
import { joinGroup } from "./joinGroup.js";
import { loggersOf } from "./loggerFlags.js";
import { addPretrainFlags, toPretrainOptions, type PretrainFlags } from "./pretrainFlags.js";
import { startProcessPerGpu } from "./processPerGpu.js";
import { afterStop, defaultFolder, resumeCommand } from "./runFolder.js";
import { replay } from "./replay.js";
import { listenForStop } from "./stopSignals.js";
import { asUsageError, UsageError } from "./usageError.js";

const EXAMPLES = `
Examples:
  $ moco pretrain photos -a vit_small -b 256 --optimizer adamw --lr 1.5e-4 --wd 0.1 --moco-t 0.2 --moco-m-cos --stop-grad-conv1
  $ moco pretrain photos --config recipe.json --plan
  $ moco pretrain photos --config recipe.json --out runs/first
  $ moco pretrain photos --config recipe.json --resume runs/first
  $ moco pretrain photos --config recipe.json --out runs/first --auto-resume
  $ moco pretrain --replay runs/first/failed_step_001234.pth.tar`;

/** `moco pretrain DATA` */
export function register(program: Command): void {
  const command = program
    .command("pretrain")
    .description("train an encoder on images without labels, with every flag of upstream's main_moco.py")
    .argument("[DATA]", "folder of images (with train/ inside, a folder for each class, or flat), file list, tar shards or Parquet");
  addPretrainFlags(command)
    .addHelpText("after", EXAMPLES)
    .action(async (data: string | undefined) => {
      const { config, replay: file } = command.opts<PretrainFlags>();
      if (file !== undefined) return replay(command.opts<PretrainFlags>(), file);
      if (data === undefined) throw new UsageError("missing required argument 'DATA': the images to train on");
      if (config !== undefined) applyConfigFile(command, config);
      await run(data, command.opts<PretrainFlags>());
    });
}

async function run(data: string, flags: PretrainFlags): Promise<void> {
  const options = { ...toPretrainOptions(data, flags), out: flags.out ?? defaultFolder({ resume: flags.resume, name: flags.arch }) };
  const spawned = flags.plan ? null : await startProcessPerGpu({ flags, words: process.argv.slice(2), folder: flags.out === undefined ? options.out : null });
  if (spawned !== null) return void (process.exitCode = spawned);
  let display: Display | null = null;
  using stop = listenForStop(flags, () => display); // first of all: SIGUSR1 would open Node.js's debugger, SIGUSR2 end the process
  await ensureReady();
  if (flags.plan) return tellPlan(options, flags);
  const loggers = await loggersOf(flags);
  using group = await joinGroup(flags);
  const leads = group === undefined || group.rank === 0;
  const { pretrain } = await import("../train/pretrain.js");
  const { checkpointsIn } = await import("../train/runs/checkpointFiles.js");
  const { formatDuration, RUN_LOG } = await import("../report/index.js");
  const quiet = !leads || flags.quiet === true || readConfig().quiet;
  display = await createDisplay(flags, data, options.out, quiet);
  const command = (): string => resumeCommand("pretrain", options.out, [], flags.autoResume);
  const goOn = (): string => `Go on with:\n  ${command()}`;

  try {
    const hooks = leads ? display.hooks : {}; // rank 0 tells what all have in common
    const result = await pretrain({ ...options, ...loggers, group }, { ...hooks, signal: stop.signal });
    result.moco.dispose();
    display.stop();
    if (leads) tellResult(result, display);
    if (result.reason === "interrupted") await stop.stopped();
  } catch (error) {
    display.stop();
    const last = checkpointsIn(options.out).at(-1);
    if (display.started && last !== undefined) display.tell(`The last checkpoint is ${join(options.out, last)}. ${goOn()}`);
    throw asUsageError(error);
  }

  function tellResult({ reason, steps, loss, checkpoint, badImages, seconds }: PretrainResult, display: Display): void {
    const log = join(options.out, RUN_LOG);
    const unfinished = reason !== "finished";
    if (unfinished) {
      display.tell(`Stopped ${stop.cause(reason)} after ${counted(steps, "step")}. ${afterStop(checkpoint, options.out, command())}`);
    } else if (!quiet) {
      display.tell(`Done in ${formatDuration(seconds)}: ${counted(steps, "step")}, last loss ${loss?.toFixed(4) ?? "-"}. Log: ${log}`);
    }
    if (badImages.length > 0) display.tell(`Left out as unreadable: ${counted(badImages.length, "image")}; ${log} has the names.`);
    if (flags.json) {
      const resume = unfinished ? command() : null;
      process.stdout.write(`${JSON.stringify({ reason, checkpoint, out: options.out, log, steps, loss, badImages, seconds, resume })}\n`);
    } else if (checkpoint !== null) {
      process.stdout.write(`${checkpoint}\n`);
    }
  }
}

/** `--plan`: says what the run would need, and ends. */
async function tellPlan(options: PretrainOptions, { quiet = false, json = false }: PretrainFlags): Promise<void> {
  const { planPretraining } = await import("../train/planning/planPretraining.js");
  const { describePlan } = await import("./planReport.js");
  try {
    const plan = await planPretraining(options, {
      onStage: (what) => quiet || readConfig().quiet || process.stderr.write(`measuring: ${what}\n`),
    });
    process.stdout.write(json ? `${JSON.stringify(plan)}\n` : describePlan(plan));
  } catch (error) {
    throw asUsageError(error);
  }
}

interface Display {
  hooks: PretrainHooks;
  /** Whether training has begun. */
  readonly started: boolean;
  /** A message that is shown under --quiet too. */
  tell(line: string): void;
  stop(): void;
}

/** Everything that goes to standard error. */
async function createDisplay(flags: PretrainFlags, data: string, out: string, quiet: boolean): Promise<Display> {
  const { formatDuration, TrainingProgress } = await import("../report/index.js");
  let progress: TrainingProgress | null = null;
  let started = false;
  const tell = (line: string): void => {
    progress?.stop();
    process.stderr.write(`${line}\n`);
  };
  return {
    get started() {
      return started;
    },
    tell,
    stop: () => progress?.stop(),
    hooks: {
      onStart: ({ images, epochs, stepsPerEpoch, firstStep, device, options, resumedFrom }) => {
        started = true;
        if (quiet) return;
        const from = resumedFrom === null ? "" : `, from step ${firstStep} (${resumedFrom})`;
        tell(
          `${flags.arch} on ${device}: ${counted(images, "image")} in ${data}, ${counted(epochs, "epoch")} of ` +
            `${counted(stepsPerEpoch, "step")} of ${flags.batchSize}, ${String(options.precision)}, seed ${String(options.seed)}${from}. ` +
            `Writing to ${out}`,
        );
        const lastStep = flags.stopAfter === undefined ? undefined : Math.min(firstStep + flags.stopAfter, epochs * stepsPerEpoch);
        progress = new TrainingProgress({ epochs, stepsPerEpoch, printEvery: flags.printFreq, lastStep });
      },
      onStep: (step) => progress?.step(step),
      onKnn: ({ epoch, k, acc1, acc5, queries, gallery, leaveOneOut, seconds }) => {
        if (quiet) return;
        const judged = `${counted(queries, "image")} by ${k} of ${leaveOneOut ? "the others" : gallery.toLocaleString("en")}`;
        tell(`kNN after epoch ${epoch + 1}: acc@1 ${acc1.toFixed(1)} %, acc@5 ${acc5.toFixed(1)} % (${judged}, ${formatDuration(seconds)})`);
      },
      onBadImage: ({ name, reason }) => tell(`${pc.yellow("left out:")} ${name}: ${reason}`),
      onWarning: (message) => tell(`${pc.yellow("warning:")} ${message}`),
    },
  };
}
