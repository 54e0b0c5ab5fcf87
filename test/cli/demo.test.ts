import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "@jest/globals";
import { EmojiDrawings } from "../../lib/data/datasets/emojiDrawings.js";
import { readRunLog } from "../../lib/report/index.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { startMoco } from "./moco.js";

const run = promisify(execFile);
const main = fileURLToPath(new URL("../../lib/cli/main.js", import.meta.url));
const folder = temporaryFolder("demo");

interface Figures {
  recall1: number;
  recall5: number;
  knn: number;
}

test("the drawings are those of two vendors, composited on white", async () => {
  const source = new EmojiDrawings();
  expect([source.length, source.pairs, source.baseEmoji.length, source.classes.length]).toEqual([7572, 3786, 1911, 10]);
  expect(source.name(0).replace("google", "twitter")).toBe(source.name(source.pairs));
  expect(source.label(5)).toBe(source.label(5 + source.pairs));
  const { data, width, height } = await source.image(0);
  expect([width, height, data.length]).toEqual([64, 64, 64 * 64 * 3]);
  expect([...data.subarray(0, 3)]).toEqual([255, 255, 255]);
});

test("one epoch already teaches something, and the report shows it", async () => {
  const { stdout, stderr } = await run(process.execPath, [main, "demo", "--epochs", "1", "--out", folder, "--json"]);
  const result = JSON.parse(stdout) as { random: Figures; trained: Figures; seconds: number; seed: number; report: string };
  for (const { recall1, recall5, knn } of [result.random, result.trained]) {
    expect(0 < recall1 && recall1 < recall5 && recall5 < knn && knn < 1).toBe(true);
  }
  expect(result.trained.recall1).toBeGreaterThan(result.random.recall1);
  expect(result.seed).toBe(0);
  expect(stderr).toMatch(/epoch 1\/1 +step +1\/59/);
  const report = readFileSync(result.report, "utf8");
  expect(report.match(/<img src="data:image\/png;base64,/g)).toHaveLength(24 * 11);
  for (const words of ["MoCo v3 demo", "59 of 59 steps", "Nearest drawings of the other vendor", '"id":"loss"']) expect(report).toContain(words);
  expect(/undefined|NaN/.test(report.replace(/"data:[^"]*"|<(script|style)\b[^>]*>.*?<\/\1>/gs, ""))).toBe(false);

  // Again in the same folder: another demo, whose first step has the same loss.
  const first = /epoch 1\/1 +step +1\/59 +loss +[\d.]+/;
  const again = await startMoco(["demo", "--epochs", "1", "--out", folder], { onStderr: (text, child) => void (first.test(text) && child.kill("SIGKILL")) });
  expect(first.exec(again.stderr)?.[0]).toBe(first.exec(stderr)![0]);
  expect(readRunLog(join(folder, "log.jsonl")).runs).toMatchObject([{ firstStep: 0, resumedFrom: null }]);
}, 180_000);

test("a run that is no demo's is left alone", async () => {
  const other = join(folder, "other");
  mkdirSync(other);
  writeFileSync(join(other, "checkpoint_0000.pth.tar"), "somebody's");
  await expect(run(process.execPath, [main, "demo", "--epochs", "1", "--out", other])).rejects.toThrow(/already holds a run/);
  expect(readFileSync(join(other, "checkpoint_0000.pth.tar"), "utf8")).toBe("somebody's");
}, 60_000);
