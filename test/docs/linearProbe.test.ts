/** The section "Linear probe" of docs/evaluation.md: its blocks are run as they are printed, and its figures are those of the runs. */
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { writeCheckpoint } from "../../lib/checkpoint/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import { writeDigits } from "../support/digits.js";
import { fixturePath } from "../support/fixtures.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { readPage, ReadersFolder } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();
const page = readPage("evaluation.md");
const first = page.text.slice(0, page.text.indexOf("\n## Linear probe")).split("\n").length;
const rest = page.text.split("\n").slice(first + 1);
const length = rest.findIndex((line) => line.startsWith("## "));
const last = length < 0 ? Infinity : first + 1 + length;
const blocks = page.blocks.filter(({ line }) => line > first && line <= last);

beforeAll(async () => {
  await writeDigits(join(folder.path, "digits"));
  copyFileSync(fixturePath("docs/digits-encoder.pth.tar"), join(folder.path, "encoder.pth.tar"));
  torch.manualSeed(0);
  using random = new VisionTransformer({ imageSize: 16, patchSize: 4, embedDim: 32, depth: 2, numHeads: 4, numClasses: 0 });
  await writeCheckpoint(join(folder.path, "random.pth.tar"), { state_dict: random.stateDict(), moco_v3_run: { num_heads: 4 } });
}, 120_000);

/**
 * Text without its numbers, and the numbers. Other processors round otherwise, which moves an image or two of 360 over the border, and with
 * that the epoch that was best.
 */
function parts(output: string): [string, number[]] {
  const pattern = /\d+(\.\d+)?/g;
  const text = output.replaceAll(/^((?: +[\d.]+){4}) +\d+$/gm, "$1 EPOCH");
  const words = text.replaceAll(pattern, "#").replaceAll(/(true|false)/g, "BOOLEAN").replaceAll(/ +/g, " ");
  return [words, (text.match(pattern) ?? []).map(Number)];
}

describe("docs/evaluation.md, linear probe", () => {
  test("has commands, a program and their output", () => {
    expect([...new Set(blocks.map(({ language }) => language))].sort()).toEqual(["sh", "ts"]);
    expect(blocks.filter(({ output }) => output !== null).length).toBe(blocks.length);
    expect(blocks.length).toBeGreaterThan(5);
  });

  for (const { language, code, output, line } of blocks) {
    test(`line ${line}: ${code.trim().split("\n")[0]}`, async () => {
      const outcome = language === "sh" ? await folder.runShell(code) : await folder.runTypeScript(code);
      if (outcome.code !== 0) throw new Error(`exit code ${outcome.code}\n${outcome.stdout}${outcome.stderr}`);
      const [[words, numbers], [expectedWords, expected]] = [parts(outcome.stdout), parts(output!)];
      expect(words).toBe(expectedWords);
      numbers.forEach((value, i) => expect({ i, value, near: Math.abs(value - expected[i]!) <= 6 }).toEqual({ i, value, near: true }));
    }, 180_000);
  }
});
