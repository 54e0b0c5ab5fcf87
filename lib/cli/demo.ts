import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
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
    .option("--out <dir>", "folder for report.html", "demo-run")
    .addOption(new Option("--seed <n>", "seed of weights and augmentation").argParser(wholeFrom(0)).default(0))
    .addOption(new Option("--epochs <n>", "shorter or longer training").argParser(wholeFrom(1, 10_000)))
    .addOption(new Option("--threads <n>", "threads of one operator").argParser(wholeFrom(1, 1024)))
    .option("--json", "print the figures as JSON")
    .addHelpText("after", "\nExample:\n  $ moco demo --out demo-run")
    .action(async (flags: Flags) => {
      await ensureReady();
      await fetchDemoImages();
      const { EmojiDrawings } = await import("../data/datasets/emojiDrawings.js");
      const { runDemo } = await import("../train/demo.js");
      const { demoReportHtml } = await import("../report/demoReport.js");
      const { TrainingProgress } = await import("../report/index.js");
      const { out, json, ...options } = flags;
      const source = new EmojiDrawings();
      let progress: InstanceType<typeof TrainingProgress> | undefined;
      const result = await runDemo(source, options, {
        onStart: ({ epochs, stepsPerEpoch }) => void (progress = new TrainingProgress({ epochs, stepsPerEpoch, printEvery: stepsPerEpoch })),
        onStep: (step) => progress?.step(step),
      });
      progress?.stop();
      const image = (index: number, query: number): { src: string; name: string; isMatch: boolean } => ({
        src: `data:image/png;base64,${readFileSync(source.pngFile(index)).toString("base64")}`,
        name: source.name(index),
        isMatch: index !== query && index % source.pairs === query % source.pairs,
      });
      const { random, trained, seconds, seed, epochs, losses } = result;
      await mkdir(out, { recursive: true });
      const report = join(out, "report.html");
      const summary =
        `A ViT of four blocks, pre-trained for ${epochs} epochs on ${source.length.toLocaleString("en")} unlabelled drawings in ` +
        `${Math.round(seconds)} seconds on the CPU (seed ${seed}), then frozen.`;
      const gallery = result.neighbours.map(({ query, before, after }) => ({
        query: image(query, query),
        before: before.map((index) => image(index, query)),
        after: after.map((index) => image(index, query)),
      }));
      await writeFile(report, demoReportHtml({ random, trained, losses, gallery, summary }));
      process.stdout.write(json ? `${JSON.stringify({ random, trained, seconds, seed, epochs, report })}\n` : table(result, report));
    });
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
