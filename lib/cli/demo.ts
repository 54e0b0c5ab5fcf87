import { readFileSync } from "node:fs";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Command, Option } from "commander";
import { ensureReady, fetchDemoImages } from "../setup/index.js";
import { wholeFrom } from "./numberOption.js";

interface Flags {
  out: string;
  seed: number;
  epochs?: number;
  threads?: number;
  json?: boolean;
}

/** `moco demo` */
export function register(program: Command): void {
  program
    .command("demo")
    .description("pre-train a small ViT on 7,572 emoji drawings and show what it learned, in about five minutes on two cores")
    .option("--out <dir>", "folder for report.html, log and checkpoint", "demo-run")
    .addOption(new Option("--seed <n>", "seed of weights and augmentation").argParser(wholeFrom(0)).default(0))
    .addOption(new Option("--epochs <n>", "shorter or longer training").argParser(wholeFrom(1, 10_000)))
    .addOption(new Option("--threads <n>", "threads of one operator").argParser(wholeFrom(1, 1024)))
    .option("--json", "print the figures as JSON")
    .addHelpText("after", "\nExample:\n  $ moco demo --out demo-run")
    .action(async (flags: Flags) => {
      const report = join(flags.out, "report.html");
      await requireWritable(flags.out); // before minutes of training, not after them
      await clearOldDemo(flags.out);
      await ensureReady();
      await fetchDemoImages();
      const { EmojiDrawings } = await import("../data/datasets/emojiDrawings.js");
      const { runDemo } = await import("../train/demo.js");
      const { demoFigures } = await import("../report/demoFigures.js");
      const { writeRunReport } = await import("../report/run/runReport.js");
      const { TrainingProgress } = await import("../report/index.js");
      const { out, json, ...options } = flags;
      const source = new EmojiDrawings();
      let progress: InstanceType<typeof TrainingProgress> | undefined;
      const result = await runDemo(source, { ...options, out }, {
        onStart: ({ epochs, stepsPerEpoch }) => void (progress = new TrainingProgress({ epochs, stepsPerEpoch, printEvery: stepsPerEpoch })),
        onStep: (step) => progress?.step(step),
      });
      progress?.stop();
      const image = (index: number, query: number): { src: string; name: string; isMatch: boolean } => ({
        src: `data:image/png;base64,${readFileSync(source.pngFile(index)).toString("base64")}`,
        name: source.name(index),
        isMatch: index !== query && index % source.pairs === query % source.pairs,
      });
      const { random, trained, seconds, seed, epochs } = result;
      const summary =
        `A ViT of four blocks, pre-trained for ${epochs} epochs on ${source.length.toLocaleString("en")} unlabelled drawings in ` +
        `${Math.round(seconds)} seconds on the CPU (seed ${seed}), then frozen.`;
      const gallery = result.neighbours.map(({ query, before, after }) => ({
        query: image(query, query),
        before: before.map((index) => image(index, query)),
        after: after.map((index) => image(index, query)),
      }));
      // First what was learned: a disk that is full by now does not take it away.
      process.stdout.write(json ? `${JSON.stringify({ random, trained, seconds, seed, epochs, report })}\n` : table(result, report));
      await writeRunReport([out], { out: report, title: "MoCo v3 demo", figures: demoFigures({ random, trained, gallery, summary }) });
    });
}

/** What the demo leaves in its folder beside the run, so that the next one knows whose run it is. */
const MARK = ".moco-demo";

/** Removes the run of an earlier demo. A run that is not a demo's stays, and is then refused as any second run in a folder is. */
async function clearOldDemo(folder: string): Promise<void> {
  const names = await readdir(folder);
  const isRun = (name: string): boolean => /^(log\.jsonl|last\.pth\.tar|checkpoint_\d+\.pth\.tar)$/.test(name);
  if (names.includes(MARK)) await Promise.all(names.filter(isRun).map((name) => rm(join(folder, name))));
  else if (!names.some(isRun)) await writeFile(join(folder, MARK), "");
}

/** Makes the folder, and sees whether a file can be written there. */
async function requireWritable(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const trial = join(folder, ".moco-writes-here");
  try {
    await writeFile(trial, "x");
  } finally {
    await rm(trial, { force: true });
  }
}

function table(
  { random, trained, seconds, seed }: { random: Figures; trained: Figures; seconds: number; seed: number },
  report: string,
): string {
  const percent = (fraction: number): string => `${(fraction * 100).toFixed(1)} %`.padStart(9);
  const row = (name: string, key: keyof Figures): string => `${name.padEnd(42)}${percent(random[key])}${percent(trained[key])}`;
  return [
    `${"frozen encoder".padEnd(42)}${"random".padStart(9)}${"trained".padStart(9)}`,
    row("same emoji of the other vendor: recall@1", "recall1"),
    row("                                recall@5", "recall5"),
    row("category of an emoji: kNN accuracy", "knn"),
    "",
    `${Math.round(seconds)} s, seed ${seed}. Pictures and loss curve: ${report}`,
    "",
  ].join("\n");
}

interface Figures {
  recall1: number;
  recall5: number;
  knn: number;
}
