import { readdirSync, statSync } from "node:fs";
import { type Command, Option } from "commander";
import pc from "picocolors";
import type { Figure } from "../report/figure.js";
import { ensureReady } from "../setup/index.js";
import { counted } from "./counted.js";
import { megabytes } from "./megabytes.js";
import { wholeFrom } from "./numberOption.js";
import { registerAugment } from "./reportAugment.js";
import { registerPictures } from "./reportPictures.js";
import { registerPositionEmbedding } from "./reportPositionEmbedding.js";
import { UsageError } from "./usageError.js";

interface ReportFlags {
  out?: string;
  serve?: boolean;
  port?: number;
  host: string;
  pictures: boolean;
  data?: string;
  json?: boolean;
}

const EXAMPLES = `
A report has charts of loss, rates, speed, accuracy and stability, what happened when, and the options that are not as usual. With
a checkpoint it also shows what the network sees: attention, filters, a map of the images, neighbours. With several runs, these are compared
side by side, without pictures.

Examples:
  $ moco report runs/first
  $ moco report runs/first --no-pictures
  $ moco report runs/first --serve
  $ moco report runs/first runs/second --out comparison.html
  $ moco report augment photos --out views.html`;

/** `moco report RUN`, and the kinds of reports that have a name. */
export function register(program: Command): void {
  const report = program
    .command("report")
    .description("show what a run sees and does, as a page or a picture")
    .helpCommand(false)
    .enablePositionalOptions()
    .argument("[RUN...]", "folder of a training (pretrain, lincls, finetune); more of them to compare")
    .option("--out <file>", "page to write (default: report.html in the run's folder)")
    .option("--serve", "follow the run in the browser until Ctrl-C; it may still have to begin")
    .addOption(new Option("--port <n>", "where to serve (default: 8350, or any that is free)").argParser(wholeFrom(0, 65_535)))
    .option("--host <address>", "who can see it: 127.0.0.1 is this machine only, 0.0.0.0 everybody in the network", "127.0.0.1")
    .option("--no-pictures", "only what the log tells: quick, and without libtorch")
    .option("--data <DATA>", "images for the pictures (default: those that the run was trained on)")
    .option("--json", "print the result as JSON")
    .addHelpText("after", EXAMPLES)
    .action((runs: string[], flags: ReportFlags) => {
      if (runs.length === 0) throw new UsageError("give the folder of a run, such as runs/first, or augment DATA for a contact sheet");
      return flags.serve ? serve(runs, flags) : write(runs, flags);
    });
  registerAugment(report);
  registerPictures(report);
  registerPositionEmbedding(report);
}

/** What the network of a run sees. Here a report of the log and the pictures of the network meet. */
async function* networkFigures(folder: string, data: string | undefined, onWarning: (message: string) => void): AsyncGenerator<Figure> {
  await ensureReady();
  const { runPictures } = await import("../train/runPictures.js");
  yield* runPictures({ folder, data }, onWarning);
}

/** Whether a run has left a network that can be looked at. */
function hasCheckpoint(run: string): boolean {
  return statSync(run, { throwIfNoEntry: false })?.isDirectory() === true && readdirSync(run).some((name) => name.endsWith(".pth.tar"));
}

async function write(runs: readonly string[], { out, port, json, pictures, data }: ReportFlags): Promise<void> {
  if (port !== undefined) throw new UsageError(`--port ${port} is where --serve serves; add --serve`);
  if (out !== undefined && !/\.html?$/i.test(out)) throw new UsageError(`--out is ${out}; give a name that ends in .html`);
  const { writeRunReport } = await import("../report/run/runReport.js");
  const figures: Figure[] = [];
  if (pictures && runs.length === 1 && hasCheckpoint(runs[0]!)) {
    const warn = (message: string): void => void process.stderr.write(`${pc.yellow("warning:")} ${message}\n`);
    try {
      for await (const figure of networkFigures(runs[0]!, data, warn)) figures.push(figure);
    } catch (error) {
      warn(`the pictures are left out: ${(error as Error).message}`); // the log's report needs no libtorch
    }
  }
  const report = await writeRunReport(runs, { out, figures });
  const steps = report.steps.map((count) => counted(count, "step")).join(" against ");
  const drawn = figures.length === 0 ? "" : `, ${counted(figures.length, "picture")}`;
  process.stderr.write(`${steps}${drawn}, ${megabytes(report.bytes)}\n`);
  process.stdout.write(json ? `${JSON.stringify(report)}\n` : `${report.out}\n`);
}

async function serve(runs: readonly string[], { out, port, host, pictures, data }: ReportFlags): Promise<void> {
  if (out !== undefined) throw new UsageError("--serve writes no file; leave out --out, or --serve");
  const { ReportServer } = await import("../report/run/serveRuns.js");
  await using server = await ReportServer.start(runs, {
    port, host, pictures: pictures && runs.length === 1 ? (folder, onWarning) => networkFigures(folder, data, onWarning) : undefined,
  });
  const warning = ["127.0.0.1", "::1", "localhost"].includes(host) ? "" : ` ${pc.yellow("Everybody who reaches this machine can read it.")}`;
  process.stderr.write(`Following ${runs.join(", ")}.${warning} Ctrl-C ends it.\n`);
  process.stdout.write(`${server.url}\n`);
  await new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
  });
}
