/** The sections on kNN and on nearest images: their blocks are run as they are printed, and print what the pages say. */
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { writeDigits } from "../support/digits.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { plantedFolder, untrainedEncoder } from "../train/plantedDuplicates.js";
import { readPage, ReadersFolder, type Block } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();

beforeAll(async () => {
  await Promise.all([writeDigits(join(folder.path, "digits")), plantedFolder(join(folder.path, "pictures")), untrainedEncoder(join(folder.path, "encoder.pth.tar"))]);
}, 120_000);

/** The blocks of a page from a heading to the next of its rank. */
function blocksBelow(name: string, heading: string): Block[] {
  const { text, blocks } = readPage(name);
  const lines = text.split("\n");
  const first = lines.indexOf(`## ${heading}`) + 1;
  if (first === 0) throw new Error(`docs/${name} has no section "${heading}"`);
  const length = lines.slice(first).findIndex((line) => line.startsWith("## "));
  return blocks.filter(({ line }) => line > first && (length < 0 || line <= first + length));
}

/** Words, and numbers: a training's figures are others where the processor rounds otherwise. */
function parts(output: string): [string, number[]] {
  const number = /(?<![\w-])\d+(\.\d+)?/g;
  return [output.replaceAll(number, "#").replaceAll(/ +/g, " "), [...output.matchAll(number)].map(([text]) => Number(text))];
}

describe.each<[string, string, number]>([
  ["evaluation.md", "kNN", 8], ["serving.md", "Nearest images and near-duplicates", 0.0051],
])("docs/%s, %s", (name, heading, tolerance) => {
  const blocks = blocksBelow(name, heading);

  test("has commands and a program, each with its output", () => {
    expect([...new Set(blocks.map(({ language }) => language))].sort()).toEqual(["sh", "ts"]);
    expect(blocks.filter(({ output }) => output === null)).toEqual([]);
    expect(blocks.length).toBeGreaterThan(3);
  });

  for (const { language, code, output, line } of blocks) {
    test(`line ${line}: ${code.trim().split("\n")[0]}`, async () => {
      const outcome = language === "sh" ? await folder.runShell(code) : await folder.runTypeScript(code);
      if (outcome.code !== 0) throw new Error(`exit code ${outcome.code}\n${outcome.stdout}${outcome.stderr}`);
      const [[words, numbers], [expectedWords, expected]] = [parts(outcome.stdout), parts(output!)];
      expect(words).toBe(expectedWords);
      numbers.forEach((value, i) => expect([i, Math.abs(value - expected[i]!) <= tolerance]).toEqual([i, true]));
    }, 240_000);
  }
});
