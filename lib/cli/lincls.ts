import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import pc from "picocolors";
import { readConfig } from "../config.js";
import type { CountProgress, EvaluationEntry, TrainingProgress } from "../report/index.js";
import { ensureReady } from "../setup/index.js";
import type { LinearProbeHooks, LinearProbeResult } from "../train/linear.js";
import type { LinearProbeOptions } from "../train/linearProbe/linearOptions.js";
import { applyConfigFile } from "./configFile.js";
import { counted } from "./counted.js";
import { joinGroup } from "./joinGroup.js";
import { loggersOf } from "./loggerFlags.js";
import { addLinclsFlags, toLinearProbeOptions, type LinclsFlags } from "./linclsFlags.js";
import { startProcessPerGpu } from "./processPerGpu.js";
import { afterStop, defaultFolder, resumeCommand } from "./runFolder.js";
import { listenForStop } from "./stopSignals.js";
import { asUsageError } from "./usageError.js";

const EXAMPLES = `
Examples:
  $ moco lincls imagenet -a vit_small --lr 3 --pretrained vit-s-300ep.pth.tar
  $ moco lincls photos --pretrained runs/photos --cache-features --sweep 0.1,0.3,1,3,10
  $ moco lincls photos --evaluate --resume runs/probe/model_best.pth.tar`;

/** `moco lincls DIR` */
export function register(program: Command): void {
  const command = program
    .command("lincls")
    .description("judge an encoder by a linear classifier of its frozen features, with every flag of upstream's main_lincls.py")
    .argument("<DIR>", "labelled images: a folder with train/ and val/ and a folder for each class in both, CIFAR, Flowers-102, Pets or shards");
  addLinclsFlags(command)
    .addHelpText("after", EXAMPLES)
    .action(async (data: string) => {
      const { config } = command.opts<LinclsFlags>();
      if (config !== undefined) applyConfigFile(command, config);
      const rateGiven = command.getOptionValueSource("learningRate") !== "default";
      await run(toLinearProbeOptions(data, command.opts<LinclsFlags>(), rateGiven), command.opts<LinclsFlags>());
    });
}

async function run(given: LinearProbeOptions, flags: LinclsFlags): Promise<void> {
  const out = flags.evaluate ? undefined : flags.out ?? defaultFolder({ resume: flags.resume, name: "lincls" });
  const options = { ...given, out };
  const spawned = await startProcessPerGpu({ flags, words: process.argv.slice(2), folder: flags.out === undefined ? out ?? null : null });
  if (spawned !== null) return void (process.exitCode = spawned);
  let display: Display | null = null;
  using stop = listenForStop(flags, () => display); // first of all: SIGUSR1 would open Node.js's debugger, SIGUSR2 end the process
  await ensureReady();
  const loggers = await loggersOf(flags);
  using group = await joinGroup(flags);
  const leads = group === undefined || group.rank === 0;
  const { linearProbe } = await import("../train/linear.js");
  const quiet = !leads || flags.quiet === true || readConfig().quiet;
  display = await createDisplay(flags, options, quiet);
  const command = (): string => resumeCommand("lincls", out!, [], flags.autoResume);
  const goOn = (): string => `Go on with:\n  ${command()}`;
  try {
    const result = await linearProbe({ ...options, ...loggers, group }, { ...(leads ? display.hooks : {}), signal: stop.signal });
    result.model.dispose();
    display.stop();
    if (!leads) return; // rank 0 tells what all have in common
    const saved = out !== undefined && existsSync(join(out, "checkpoint.pth.tar"));
    if (result.reason !== "finished") {
      const left = out === undefined ? "" : ` ${afterStop(result.checkpoint, out, command())}`;
      display.tell(`Stopped ${stop.cause(result.reason)} after ${counted(result.steps, "step")}.${left}`);
    }
    if (result.badImages.length > 0) display.tell(`Left out as unreadable: ${counted(result.badImages.length, "image")}.`);
    const resume = result.reason !== "finished" && saved ? command() : null;
    process.stdout.write(flags.json ? `${JSON.stringify(asJson(result, options, resume))}\n` : inWords(result, options));
    if (result.reason === "interrupted") await stop.stopped();
  } catch (error) {
    display.stop();
    const file = out === undefined ? null : join(out, "checkpoint.pth.tar");
    if (display.started && file !== null && existsSync(file)) display.tell(`The last checkpoint is ${file}. ${goOn()}`);
    throw asUsageError(error);
  }
}

/** The path of the best model, where one was saved. */
function bestModel({ out }: LinearProbeOptions): string | null {
  const path = out === undefined ? null : join(out, "model_best.pth.tar");
  return path !== null && existsSync(path) ? path : null;
}

function asJson(result: LinearProbeResult, options: LinearProbeOptions, resume: string | null): object {
  const { reason, checkpoint, steps, evaluation, bestAcc1, heads, badImages, seconds, classes } = result;
  const log = options.out === undefined ? null : join(options.out, "log.jsonl");
  const sweep = options.sweep?.map((rate, k) => ({ ...heads[k], lr: rate, scaledLr: heads[k]!.lr }));
  return {
    reason, acc1: evaluation?.acc1 ?? null, acc5: evaluation?.acc5 ?? null, loss: evaluation?.loss ?? null, images: evaluation?.images ?? null,
    classes: classes.length, bestAcc1: options.evaluate ? evaluation?.acc1 ?? null : bestAcc1, ...(sweep ? { sweep } : {}), steps, checkpoint,
    best: bestModel(options), out: options.out ?? null, log, badImages, seconds, resume,
  };
}

function inWords({ evaluation, bestAcc1, heads }: LinearProbeResult, options: LinearProbeOptions): string {
  const lines: string[] = [];
  if (options.sweep && evaluation) {
    const cell = (value: number | null): string => (value === null ? "-" : value.toFixed(2)).padStart(8);
    lines.push("       lr   acc@1   acc@5    best  after epoch");
    options.sweep.forEach((rate, k) => {
      const { acc1, acc5, bestAcc1: best, bestEpoch, diverged } = heads[k]!;
      const figures = diverged ? "  diverged" : cell(acc1) + cell(acc5) + cell(best) + String(bestEpoch === null ? "-" : bestEpoch + 1).padStart(13);
      lines.push(String(rate).padStart(9) + figures);
    });
  } else if (evaluation) {
    const best = options.evaluate ? "" : `, best acc@1 ${bestAcc1.toFixed(3)}`;
    lines.push(`acc@1 ${evaluation.acc1.toFixed(3)}  acc@5 ${evaluation.acc5.toFixed(3)}${best}`);
  }
  const path = bestModel(options);
  if (path !== null) lines.push(path);
  return lines.map((line) => `${line}\n`).join("");
}

interface Display {
  hooks: LinearProbeHooks;
  /** Whether training has begun, or the features for it. */
  readonly started: boolean;
  /** A message that is shown under --quiet too. */
  tell(line: string): void;
  stop(): void;
}

/** Everything that goes to standard error. */
async function createDisplay(flags: LinclsFlags, options: LinearProbeOptions, quiet: boolean): Promise<Display> {
  const { CountProgress, TrainingProgress } = await import("../report/index.js");
  let progress: TrainingProgress | null = null;
  const counts = new Map<string, CountProgress>();
  let started = false;
  const stop = (): void => {
    progress?.stop();
    for (const count of counts.values()) count.stop();
  };
  const tell = (line: string): void => {
    stop();
    process.stderr.write(`${line}\n`);
  };
  const count = (label: string, done: number, images: number): void => {
    if (quiet) return;
    if (!counts.has(label)) counts.set(label, new CountProgress(label));
    counts.get(label)!.update(done, images);
  };
  const evaluated = ({ epoch, acc1, acc5, loss, best }: EvaluationEntry): string =>
    `epoch ${epoch + 1}/${flags.epochs}  acc@1 ${acc1.toFixed(3)}  acc@5 ${acc5.toFixed(3)}  loss ${loss.toFixed(4)}${best ? "  the best so far" : ""}`;
  return {
    get started() {
      return started || counts.size > 0;
    },
    tell,
    stop,
    hooks: {
      onStart: ({ images, epochs, stepsPerEpoch, firstStep, device, options: run, resumedFrom }) => {
        started = true;
        if (quiet) return;
        const from = resumedFrom === null ? "" : `, from step ${firstStep} (${resumedFrom})`;
        const classifiers = flags.sweep ? `${counted(flags.sweep.length, "classifier")} of ` : "";
        tell(
          `${classifiers}${String(run.arch)} on ${device}: ${counted(images, "image")} of ${String(run.numClasses)} classes in ` +
            `${String(run.data)}, ${counted(epochs, "epoch")} of ${counted(stepsPerEpoch, "step")} of ${flags.batchSize}, ` +
            `${String(run.precision)}, seed ${String(run.seed)}${from}. Writing to ${options.out}`,
        );
        const lastStep = flags.stopAfter === undefined ? undefined : Math.min(firstStep + flags.stopAfter, epochs * stepsPerEpoch);
        progress = new TrainingProgress({ epochs, stepsPerEpoch, printEvery: flags.printFreq, lastStep });
      },
      onStep: (step) => progress?.step(step),
      onFeatures: (done, images, part) => count(part === "train" ? "features to train on" : "features to judge by", done, images),
      onEvaluationBatch: (done, images) => count("evaluated", done, images),
      onEvaluation: (evaluation) => quiet || tell(evaluated(evaluation)),
      onBadImage: ({ name, reason }) => tell(`${pc.yellow("left out:")} ${name}: ${reason}`),
      onWarning: (message) => tell(`${pc.yellow("warning:")} ${message}`),
    },
  };
}
