import { type Command, InvalidArgumentError, Option } from "commander";
import pc from "picocolors";
import { ensureReady } from "../setup/index.js";
import { megabytes } from "./megabytes.js";
import { numberIn, wholeFrom } from "./numberOption.js";
import { toJson } from "./toJson.js";
import { asUsageError, UsageError } from "./usageError.js";

interface Flags {
  grid: [number, number];
  width: number;
  temperature: number;
  out?: string;
  json?: boolean;
}

const HELP = `
Each row of the picture is a token, each column a dimension; below it is the similarity of each position to all others. Rows and columns
of --grid count patches: images of 224 pixels have 14x14 patches of 16.

Examples:
  $ moco report position-embedding --grid 14x14 --width 384
  $ moco report position-embedding --grid 12x16 --width 192 --out positions.svg
  $ moco report position-embedding --grid 8x8 --width 384 --json`;

/** A grid larger than this would take minutes, and its picture could not be read. */
const mostPatches = 4096;
const mostWidth = 4096;

/** `moco report position-embedding` */
export function registerPositionEmbedding(report: Command): void {
  report
    .command("position-embedding")
    .description("draw the fixed 2-D sine-cosine position embedding, and how alike its positions are")
    .addOption(new Option("--grid <rows x columns>", "patches of an image").argParser(gridFrom).default([14, 14], "14x14"))
    .addOption(new Option("--width <n>", "dimensions of a token, divisible by 4").argParser(wholeFrom(1, mostWidth)).default(384))
    .addOption(new Option("--temperature <n>", "of the longest wave").argParser(numberIn({ above: 0, most: 1e12 })).default(10000))
    .option("--out <file>", "picture (.png, .svg) or page (.html) to write (default: position-embedding-ROWSxCOLUMNS-WIDTH.png)")
    .option("--json", "print what was drawn, with figures of it, as JSON")
    .addHelpText("after", HELP)
    .action(draw);
}

function gridFrom(text: string): [number, number] {
  const match = /^(\d+)\s*[x×,]\s*(\d+)$/i.exec(text.trim());
  const grid = match && ([Number(match[1]), Number(match[2])] as [number, number]);
  if (grid && grid[0] >= 1 && grid[1] >= 1 && grid[0] * grid[1] <= mostPatches) return grid;
  throw new InvalidArgumentError(`It takes rows and columns from 1, such as 14x14, of at most ${mostPatches} patches together.`);
}

async function draw({ grid, width, temperature, out: given, json }: Flags): Promise<void> {
  const out = given ?? `position-embedding-${grid.join("x")}-${width}.png`;
  if (!/\.(png|svg|html)$/i.test(out)) throw new UsageError(`--out is ${out}; give a name that ends in .png, .svg or .html`);
  await ensureReady();
  const { sineCosineTable } = await import("../report/pictures/positionTable.js");
  const { writePositionPicture } = await import("../report/pictures/positionFile.js");
  const { similarityByDistance } = await import("../report/pictures/similarityByDistance.js");
  let table: ReturnType<typeof sineCosineTable>;
  try {
    table = sineCosineTable(grid, width, temperature);
  } catch (error) {
    throw asUsageError(error);
  }
  const { bytes, warnings } = await writePositionPicture(table, out);
  for (const warning of warnings) process.stderr.write(`${pc.yellow("warning:")} ${warning}\n`);
  process.stderr.write(`${1 + grid[0] * grid[1]} tokens by ${width} dimensions, ${megabytes(bytes)}\n`);
  const facts = { out, bytes, grid, width, temperature, tokens: 1 + grid[0] * grid[1], similarityByDistance: similarityByDistance(table) };
  process.stdout.write(json ? `${toJson(facts)}\n` : `${out}\n`);
}
