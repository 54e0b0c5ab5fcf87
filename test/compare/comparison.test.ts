import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "@jest/globals";
import { startCommand, type Outcome } from "../cli/moco.js";
import { testPython, testUpstream } from "../support/python.js";

const main = fileURLToPath(new URL("../../scripts/compare/main.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "moco-compare-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function compare(...words: string[]): Promise<Outcome> {
  return startCommand(process.execPath, [main, ...words], { cwd: folder });
}

test("without a checkout of upstream nothing is compared", async () => {
  const { code, stderr } = await compare("--python", "python3");
  expect(code).not.toBe(0);
  expect(stderr).toMatch(/required option '--upstream <dir>' not specified/);
});

test("a folder that is no checkout of upstream is refused before anything is trained", async () => {
  const { code, stderr } = await compare("--upstream", folder);
  expect(code).toBe(1);
  expect(stderr).toContain(`error: ${folder} has no vits.py; give a checkout of facebookresearch/moco-v3 to --upstream`);
  expect(stderr).not.toContain("pre-training");
});

const compares = testPython !== null && testUpstream !== null;

(compares ? test : test.skip)("encoders of few images and epochs are judged alike, and a second run takes them as they are", async () => {
  const words = ["--quick", "--python", testPython!, "--upstream", testUpstream!, "--dir", join(folder, "files")];
  const { code, stdout, stderr } = await compare(...words);
  // Two seeds of two epochs may be apart by chance, which is exit code 1; neighbours may not.
  if (stdout === "") throw new Error(`exit code ${code}\n${stderr}`);
  const rows = stdout.trim().split("\n").slice(2).map((row) => row.split("|").slice(1, -1).map((cell) => cell.trim()));
  expect(rows.map(([data, method]) => `${data}: ${method}`)).toEqual([
    "digits: kNN, k = 1", "digits: kNN, k = 5", "digits: kNN, k = 20", "digits: linear probe", "digits: fine-tuning, plain",
    "emoji: kNN, k = 1", "emoji: kNN, k = 5", "emoji: kNN, k = 20", "emoji: linear probe", "emoji: fine-tuning, plain", "emoji: fine-tuning, full",
  ]);
  for (const row of rows) {
    if (row[1]!.startsWith("kNN")) expect(row.at(-1)).toMatch(/^equal/);
    else expect(row[2]).toMatch(/^\d+\.\d ± \d+\.\d\d \(2\)$/);
  }
  expect(readdirSync(join(folder, "files")).sort()).toEqual(["digits-quick", "emoji-quick"]);
  expect(readdirSync(folder)).toEqual(["files"]); // a quick run leaves no record

  const again = await compare(...words, "--data", "digits", "--methods", "knn");
  expect(again.stdout.split("\n").slice(2)).toEqual([...stdout.split("\n").slice(2, 5), ""]);
}, 600_000);
