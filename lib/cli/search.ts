import { type Command, Option } from "commander";
import { ensureReady } from "../setup/index.js";
import type { SearchResult } from "../train/searchImages.js";
import { addComparisonFlags, showProgress, tellBad, toComparedOptions, type ComparisonFlags } from "./comparisonFlags.js";
import { wholeFrom } from "./numberOption.js";
import { toJson } from "./toJson.js";
import { asUsageError, UsageError } from "./usageError.js";

interface Flags extends ComparisonFlags {
  in?: string;
  neighbours?: number;
}

const HELP = `
A query is an image file, or the name of one of the images, which is then not among its own neighbours. Features of a folder are computed on the
spot with --pretrained; of embeddings, which moco embed wrote, those of the queries are, with the same checkpoint.

Examples:
  $ moco search cat.jpg dog.jpg --in photos --pretrained runs/vits
  $ moco search cat.jpg --in features.npy --pretrained runs/vits -k 5 --json
  $ moco search 2024/cat.jpg --in features.npy`;

/** `moco search QUERY... --in EMBEDDINGS|DIR` */
export function register(program: Command): void {
  const command = program
    .command("search")
    .description("find the images nearest to a query, by the similarity of their features")
    .argument("<QUERY...>", "image files, or names of images among those that are searched")
    .option("--in <path>", "what to search: images as moco pretrain takes them, or an embeddings file (.npy, .parquet, .jsonl, .safetensors)")
    .addOption(new Option("-k, --neighbours <n>", "how many images to find for each query (default: 10)").argParser(wholeFrom(1)));
  addComparisonFlags(command).addHelpText("after", HELP).action(run);
}

async function run(queries: string[], flags: Flags): Promise<void> {
  const { in: images, neighbours: k, json } = flags;
  if (images === undefined) throw new UsageError("say what to search: --in DIR or --in EMBEDDINGS");
  await ensureReady();
  const { searchImages } = await import("../train/searchImages.js");
  const progress = showProgress(flags);
  let result: SearchResult;
  try {
    result = await searchImages(queries, { ...toComparedOptions(flags), in: images, ...(k !== undefined && { k }), onProgress: progress.show });
  } catch (error) {
    throw asUsageError(error);
  } finally {
    progress.clear();
  }
  tellBad(result.bad);
  process.stdout.write(json ? `${toJson(result)}\n` : result.results.map(lines).join("\n"));
}

function lines({ query, neighbours }: SearchResult["results"][number]): string {
  const width = String(neighbours.length).length;
  const rows = neighbours.map(({ name, similarity }, i) => `  ${String(i + 1).padStart(width)}  ${similarity.toFixed(3)}  ${name}\n`);
  return `${query}\n${rows.join("")}`;
}
