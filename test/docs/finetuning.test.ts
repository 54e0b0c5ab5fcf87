/** The section "Fine-tuning" of docs/evaluation.md: its blocks are run as they are printed, and its figures are those of the runs. */
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { startCommand, type Outcome } from "../cli/moco.js";
import { writeDigits } from "../support/digits.js";
import { fixturePath } from "../support/fixtures.js";
import { testPython } from "../support/python.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { readPage, ReadersFolder } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();
const page = readPage("evaluation.md");
const start = page.text.indexOf("\n## Fine-tuning\n");
const end = page.text.indexOf("\n## ", start + 1);
const lineAt = (index: number): number => page.text.slice(0, index).split("\n").length;
const blocks = page.blocks.filter(({ line }) => line > lineAt(start) && (end < 0 || line <= lineAt(end)));

const runners: Record<string, ((code: string) => Promise<Outcome>) | null> = {
  sh: (code) => folder.runShell(code),
  ts: (code) => folder.runTypeScript(code),
  python: testPython === null ? null : (code) => startCommand("/usr/bin/env", ["-u", "PYTHONPATH", testPython!, "-c", code], { cwd: folder.path }),
};

beforeAll(async () => {
  await writeDigits(join(folder.path, "digits"));
  copyFileSync(fixturePath("docs/digits-encoder.pth.tar"), join(folder.path, "encoder.pth.tar"));
}, 120_000);

/** Text without its numbers, and the numbers. Other processors round otherwise, which moves an image or some of 360 over the border. */
function parts(text: string): [string, number[]] {
  const pattern = /\d+(\.\d+)?/g;
  return [text.replaceAll(pattern, "#"), (text.match(pattern) ?? []).map(Number)];
}

describe("docs/evaluation.md, fine-tuning", () => {
  test("has commands and programs, each with its output", () => {
    expect([...new Set(blocks.map(({ language }) => language))].sort()).toEqual(Object.keys(runners).sort());
    expect(blocks.filter(({ output }) => output === null)).toEqual([]);
    expect(blocks.length).toBeGreaterThan(4);
  });

  for (const { language, code, output, line } of blocks) {
    const run = runners[language];
    (run ? test : test.skip)(`line ${line}: ${code.trim().split("\n")[0]}`, async () => {
      const outcome = await run!(code);
      if (outcome.code !== 0) throw new Error(`exit code ${outcome.code}\n${outcome.stdout}${outcome.stderr}`);
      const [[words, numbers], [expectedWords, expected]] = [parts(outcome.stdout), parts(output!)];
      expect(words).toBe(expectedWords);
      numbers.forEach((value, i) => expect({ i, value, near: Math.abs(value - expected[i]!) <= 8 }).toEqual({ i, value, near: true }));
    }, 180_000);
  }
});
