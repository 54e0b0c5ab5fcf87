import { existsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { type Command, Option } from "commander";
import pc from "picocolors";
import type { Figure } from "../report/figure.js";
import { ensureReady } from "../setup/index.js";
import { megabytes } from "./megabytes.js";
import { wholeFrom } from "./numberOption.js";
import { asUsageError, UsageError } from "./usageError.js";

interface Flags {
  data?: string;
  out: string;
  images: number;
  thumbnails: number;
  seed: number;
  heads?: number;
  device?: string;
}

const HELP = `
Shows what a network has learned: the two views that it is trained on, position embedding, filters, attention, patch features as colours, a
map of the images' embeddings, and nearest neighbours with random and with trained weights. What a network does not have is left out.

Examples:
  $ moco report pictures runs/photos
  $ moco report pictures vit-s-300ep.pth.tar --data photos --out vit-s.html`;

/** `moco report pictures` */
export function registerPictures(report: Command): void {
  report
    .command("pictures")
    .description("pictures of a trained network, as a page")
    .argument("<RUN>", "folder of a run, or a checkpoint of any kind that moco convert reads")
    .option("--data <DATA>", "images as moco pretrain takes them (default: those that the run's log names)")
    .option("--out <file>", "page to write", "pictures.html")
    .addOption(new Option("--images <n>", "images of the map and among the neighbours").argParser(wholeFrom(1, 5000)).default(400))
    .addOption(new Option("--thumbnails <n>", "most thumbnails on the map").argParser(wholeFrom(0, 1000)).default(150))
    .addOption(new Option("--seed <n>", "seed of the choice of images, random weights and map").argParser(wholeFrom(0)).default(0))
    .addOption(new Option("--heads <n>", "attention heads of a ViT, where the file does not tell").argParser(wholeFrom(1)))
    .option("--device <name>", "cpu, cuda or cuda:N (default: the first GPU, else the CPU)")
    .addHelpText("after", HELP)
    .action(pictures);
}

async function pictures(run: string, { data, out, images, thumbnails, seed, heads, device }: Flags): Promise<void> {
  if (!/\.html?$/i.test(out)) throw new UsageError(`--out is ${out}; give a name that ends in .html`);
  await ensureReady();
  const { runPictures } = await import("../train/runPictures.js");
  const { figurePage } = await import("../report/pictures/figurePage.js");
  const { writeReportFile } = await import("../report/reportFile.js");
  const { CheckpointNotFoundError } = await import("../train/runs/checkpointFiles.js");
  if (!existsSync(run)) throw new CheckpointNotFoundError(`there is no run and no checkpoint ${run}; give the folder of a run, or a checkpoint file`);
  const place = statSync(run).isDirectory() ? { folder: run } : { folder: dirname(run), checkpoint: run };
  const figures: Figure[] = [];
  const warn = (message: string): void => void process.stderr.write(`${pc.yellow("warning:")} ${message}\n`);
  try {
    for await (const figure of runPictures({ ...place, data, images, maxThumbnails: thumbnails, seed, device, numHeads: heads }, warn)) figures.push(figure);
  } catch (error) {
    throw asUsageError(error);
  }
  if (figures.length === 0) throw new Error("there is nothing to show; the warnings above say why");
  const page = Buffer.from(figurePage({ title: "Pictures of a network", lead: `${run}`, figures }));
  await writeReportFile(out, page);
  process.stderr.write(`${figures.length} figures, ${megabytes(page.length)}\n`);
  process.stdout.write(`${out}\n`);
}
