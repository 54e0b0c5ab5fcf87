import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import pc from "picocolors";
import { readConfig } from "../config.js";
import type { CountProgress, EvaluationEntry, TrainingProgress } from "../report/index.js";
import { ensureReady } from "../setup/index.js";
import type { FinetuneResult } from "../train/finetune.js";
import type { SupervisedHooks } from "../train/runs/supervisedRecorder.js";
import { applyConfigFile } from "./configFile.js";
import { counted } from "./counted.js";
import { addFinetuneFlags, toFinetuneOptions, type FinetuneFlags } from "./finetuneFlags.js";
import { joinGroup } from "./joinGroup.js";
import { loggersOf } from "./loggerFlags.js";
import { startProcessPerGpu } from "./processPerGpu.js";
import { afterStop, defaultFolder, resumeCommand } from "./runFolder.js";
import { listenForStop } from "./stopSignals.js";
import { asUsageError } from "./usageError.js";

const EXAMPLES = `
Examples:
  $ moco finetune flowers --pretrained vit-b-300ep.pth.tar --config recipes/finetune-flowers-vit-base.json
  $ moco finetune photos --pretrained runs/photos --epochs 30 -b 128 --layer-decay 0.65 --out runs/classifier
  $ moco finetune photos --resume runs/classifier
  $ moco finetune photos --eval --resume runs/classifier/model_best.pth.tar`;

/** `moco finetune DIR` */
export function register(program: Command): void {
  const command = program
    .command("finetune")
    .description("train an encoder and a new classifier end to end on labelled images, with the recipes of DeiT")
    .argument("<DIR>", "folder with train/ and val/ and a folder for each class in both, CIFAR-10, CIFAR-100, Flowers-102, Oxford Pets, or shards");
  addFinetuneFlags(command)
    .addHelpText("after", EXAMPLES)
    .action(async (data: string) => {
      const { config } = command.opts<FinetuneFlags>();
      if (config !== undefined) applyConfigFile(command, config);
      const flags = command.opts<FinetuneFlags>();
      await (flags.eval ? evaluate(data, flags) : train(data, flags));
    });
}

/** Flags that a run begins with, and one that goes on does without. */
const BEGINNINGS = ["--pretrained", "--finetune", "--heads"];

async function train(data: string, flags: FinetuneFlags): Promise<void> {
  const out = flags.out ?? defaultFolder({ resume: flags.resume, name: "finetune" });
  const options = { ...toFinetuneOptions(data, flags), out };
  const spawned = await startProcessPerGpu({ flags, words: process.argv.slice(2), folder: flags.out === undefined ? out : null });
  if (spawned !== null) return void (process.exitCode = spawned);
  let display: Display | null = null;
  using stop = listenForStop(flags, () => display); // first of all: SIGUSR1 would open Node.js's debugger, SIGUSR2 end the process
  await ensureReady();
  const loggers = await loggersOf(flags);
  using group = await joinGroup(flags);
  const leads = group === undefined || group.rank === 0;
  const { finetune } = await import("../train/finetune.js");
  const { CLASSIFIER_CHECKPOINT, MODEL_BEST } = await import("../train/runs/checkpointFiles.js");
  display = await createDisplay(data, flags, out, leads);
  const command = (): string => resumeCommand("finetune", out, BEGINNINGS, flags.autoResume);
  const goOn = (): string => `Go on with:\n  ${command()}`;
  try {
    const result = await finetune({ ...options, ...loggers, group }, { ...(leads ? display.hooks : {}), signal: stop.signal });
    result.model.dispose();
    display.stop();
    if (leads) tellResult(result, display); // rank 0 tells what all have in common
    if (result.reason === "interrupted") await stop.stopped();
  } catch (error) {
    display.stop();
    const last = join(out, CLASSIFIER_CHECKPOINT);
    if (display.started && existsSync(last)) display.tell(`The last checkpoint is ${last}. ${goOn()}`);
    throw asUsageError(error);
  }

  function tellResult(
    { reason, steps, loss, checkpoint, evaluation, bestAcc1, classes, badImages, seconds }: FinetuneResult, display: Display,
  ): void {
    const unfinished = reason !== "finished";
    const best = existsSync(join(out, MODEL_BEST)) ? join(out, MODEL_BEST) : null;
    if (unfinished) {
      display.tell(`Stopped ${stop.cause(reason)} after ${counted(steps, "step")}. ${afterStop(checkpoint, out, command())}`);
    } else if (!display.quiet) {
      display.tell(`Done in ${display.duration(seconds)}: ${counted(steps, "step")}, last loss ${loss?.toFixed(4) ?? "-"}.`);
    }
    if (badImages.length > 0) display.tell(`Left out as unreadable: ${counted(badImages.length, "image")}; ${join(out, "log.jsonl")} has the names.`);
    if (flags.json) {
      const resume = unfinished ? command() : null;
      const { acc1 = null, acc5 = null, average = null } = evaluation ?? {};
      process.stdout.write(`${JSON.stringify({
        reason, acc1, acc5, average, bestAcc1, loss, classes: classes.length, steps, checkpoint, best, out, log: join(out, "log.jsonl"),
        badImages, seconds, resume,
      })}\n`);
    } else {
      if (evaluation !== null) process.stdout.write(`${described(evaluation)}  best acc@1 ${bestAcc1.toFixed(3)}\n`);
      const path = unfinished ? checkpoint : best ?? checkpoint;
      if (path !== null) process.stdout.write(`${path}\n`);
    }
  }
}

/** `--eval` */
async function evaluate(data: string, flags: FinetuneFlags): Promise<void> {
  const options = { ...toFinetuneOptions(data, flags), resume: flags.resume };
  const spawned = await startProcessPerGpu({ flags, words: process.argv.slice(2), folder: null });
  if (spawned !== null) return void (process.exitCode = spawned);
  await ensureReady();
  using group = await joinGroup(flags);
  const leads = group === undefined || group.rank === 0;
  const { evaluateFinetuned } = await import("../train/finetuning/evaluateFinetuned.js");
  const display = await createDisplay(data, flags, "", leads);
  try {
    const found = await evaluateFinetuned({ ...options, group }, leads ? display.hooks : {});
    display.stop();
    if (found === null || !leads) return;
    for (const bad of found.bad) display.hooks.onBadImage?.(bad);
    const { bad: badImages, ...figures } = found;
    process.stdout.write(flags.json ? `${JSON.stringify({ ...figures, badImages })}\n` : `${described(found)}\n`);
  } catch (error) {
    throw asUsageError(error);
  }
}

/** `acc@1 91.200  acc@5 99.100  loss 0.3141`, and the same of the average. */
function described({ average, ...found }: Pick<EvaluationEntry, "acc1" | "acc5" | "loss" | "average">): string {
  const figures = ({ acc1, acc5, loss }: typeof found): string => `acc@1 ${acc1.toFixed(3)}  acc@5 ${acc5.toFixed(3)}  loss ${loss.toFixed(4)}`;
  return average === undefined ? figures(found) : `${figures(found)}  average of the weights: ${figures(average)}`;
}

interface Display {
  hooks: SupervisedHooks;
  readonly quiet: boolean;
  /** Whether training has begun. */
  readonly started: boolean;
  /** A message that is shown under --quiet too. */
  tell(line: string): void;
  stop(): void;
  duration(seconds: number): string;
}

/** Everything that goes to standard error. */
async function createDisplay(data: string, flags: FinetuneFlags, out: string, leads: boolean): Promise<Display> {
  const { CountProgress, TrainingProgress, formatDuration } = await import("../report/index.js");
  const quiet = !leads || flags.quiet === true || readConfig().quiet;
  let progress: TrainingProgress | null = null;
  let count: CountProgress | null = null;
  let started = false;
  const stop = (): void => {
    progress?.stop();
    count?.stop();
  };
  const tell = (line: string): void => {
    stop();
    process.stderr.write(`${line}\n`);
  };
  return {
    quiet,
    get started() {
      return started;
    },
    tell,
    stop,
    duration: formatDuration,
    hooks: {
      onStart: ({ images, epochs, stepsPerEpoch, firstStep, device, options, resumedFrom }) => {
        started = true;
        if (quiet) return;
        const from = resumedFrom === null ? "" : `, from step ${firstStep} (${resumedFrom})`;
        const size = (options.imageSize as number[]).join("x");
        tell(
          `${String(options.arch)} on ${device}: ${counted(images, "image")} in ${data} at ${size}, ${counted(epochs, "epoch")} of ` +
            `${counted(stepsPerEpoch, "step")} of ${flags.batchSize}, ${String(options.precision)}, seed ${String(options.seed)}${from}. ` +
            `Writing to ${out}`,
        );
        const lastStep = flags.stopAfter === undefined ? undefined : Math.min(firstStep + flags.stopAfter, epochs * stepsPerEpoch);
        progress = new TrainingProgress({ epochs, stepsPerEpoch, printEvery: flags.printFreq, lastStep });
      },
      onStep: (step) => progress?.step(step),
      // A bar tells that something goes on; without a terminal there is a line after each epoch anyway.
      onEvaluationBatch: (done, images) => quiet || !process.stderr.isTTY || (count ??= new CountProgress("evaluated")).update(done, images),
      onEvaluation: (evaluation) => {
        count = null;
        if (!quiet) tell(`epoch ${evaluation.epoch + 1}/${flags.epochs}  ${described(evaluation)}${evaluation.best ? "  the best so far" : ""}`);
      },
      onBadImage: ({ name, reason }) => tell(`${pc.yellow("left out:")} ${name}: ${reason}`),
      onWarning: (message) => tell(`${pc.yellow("warning:")} ${message}`),
    },
  };
}
