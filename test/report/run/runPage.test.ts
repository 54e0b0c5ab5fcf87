import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import type { LogEntry } from "../../../lib/report/index.js";
import { runNames } from "../../../lib/report/run/followRun.js";
import type { PageData } from "../../../lib/report/run/pageData.js";
import { writeRunReport } from "../../../lib/report/run/runReport.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { fullRun, hostile, runEntry, stepEntry, steps, writeLog } from "./sampleRun.js";

const folder = temporaryFolder("run-page");
let count = 0;

async function pageOf(...logs: LogEntry[][]): Promise<string> {
  const runs = logs.map((log) => writeLog(join(folder, `run${count++}`), log));
  const { out, bytes, steps: counts } = await writeRunReport(runs);
  expect(out).toBe(join(runs[0]!, "report.html"));
  const page = readFileSync(out, "utf8");
  expect(Buffer.byteLength(page)).toBe(bytes);
  expect(counts).toHaveLength(logs.length);
  return page;
}

const dataOf = (page: string): PageData => JSON.parse(/<script type="application\/json" id="data">(.*?)<\/script>/s.exec(page)![1]!) as PageData;
/** The page without what its script is, and what it draws. */
const markup = (page: string): string => page.replaceAll(/<(script|style)\b[^>]*>.*?<\/\1>/gs, "");
const text = (page: string): string => markup(page).replaceAll(/<[^>]*>/g, " ").replaceAll(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code))).replaceAll(/\s+/g, " ");

/** What any page has to have. */
function expectSound(page: string): void {
  expect(page).toMatch(/^<!doctype html>\n<html lang="en">/);
  expect(page).toMatch(/<title>[^<]+<\/title>/);
  const rest = markup(page);
  // Every element that is opened is closed, in order.
  const open: string[] = [];
  for (const [, close, name, self] of rest.matchAll(/<(\/?)([a-z][a-z0-9]*)\b(?:[^>"]|"[^"]*")*?(\/?)>/g)) {
    if (["meta", "br", "img"].includes(name!) || self === "/") continue;
    if (close === "") open.push(name!);
    else expect(open.pop()).toBe(name);
  }
  expect(open).toEqual([]);
  const ids = [...rest.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
  expect(new Set(ids).size).toBe(ids.length);
  for (const [, anchor] of rest.matchAll(/href="#([^"]+)"/g)) expect(ids).toContain(anchor);
  const levels = [...rest.matchAll(/<h(\d)/g)].map(([, level]) => Number(level));
  expect(levels.filter((level) => level === 1)).toHaveLength(1);
  levels.forEach((level, i) => expect(level).toBeLessThanOrEqual((levels[i - 1] ?? 0) + 1));
  // Nothing is asked for from anywhere, and only the page's own script runs.
  expect(rest).not.toMatch(/(src|href|action)="(?!data:|#)/);
  expect(page).not.toMatch(/@import|url\((?!data:)/);
  const [, script] = /<script>(.*?)<\/script>/s.exec(page)!;
  expect(page.match(/<script/g)).toHaveLength(2);
  expect(page).toContain(`script-src 'sha256-${createHash("sha256").update(script!).digest("base64")}'`);
  expect(rest).not.toMatch(/ on\w+="/);
}

test("a run with everything: status, figures, options, events, images, versions", async () => {
  const page = await pageOf(fullRun());
  expectSound(page);
  const words = text(page);
  for (const part of [
    "failed vit_small · pre-training · 640 images · batches of 64 · on cpu", "31 of 40 steps, epoch 3.1 of 4", "kNN accuracy 40 %",
    "Warnings 1", "temperature 0.2 1", "optimizer adamw lars", "resumed at step 10 from runs/full/checkpoint_0000.pth.tar",
    "step left out: gradient of the first layer ×14", "1 image was left out.", "libtorch 2.11.0", "last checkpoint checkpoint_0000.pth.tar",
    "begun 2026-01-02 03:04 UTC", "Gradient by layer: projector Euclidean norm 2 2",
  ]) expect(words).toContain(part);
  expect(words).toContain("4 differ from the defaults"); // the rate is not among them: 0.6 × 64/256 is usual
  expect(dataOf(page).charts.map(({ id }) => id)).toContain("gradient-layers");
});

test("what comes from a log stays text", async () => {
  const page = await pageOf([runEntry({ options: { encoder: hostile, [hostile]: hostile, temperature: 1, batchSize: 2 }, device: hostile, versions: { [hostile]: hostile } }), ...fullRun()]);
  expectSound(page);
  expect(markup(page)).not.toMatch(/<img|onerror="|\u202e/);
  expect(page.match(/<\/script>/g)).toHaveLength(2);
  expect(dataOf(page).runs[0]!.marks.some(({ text }) => text.includes("<img src=x"))).toBe(true);
});

test.each<[string, LogEntry[], string[]]>([
  ["only its beginning", [runEntry()], ["no end yet", "No step is done yet", "0 of 40 steps"]],
  ["one step", [runEntry(), stepEntry(0)], ["1 of 40 steps", "of the last step"]],
  ["no signals", [runEntry(), ...steps(0, 40), { kind: "end", reason: "finished", seconds: 20 }], ["finished", "40 of 40 steps"]],
  ["a stop", [runEntry(), stepEntry(0), { kind: "end", reason: "interrupted", seconds: 1 }], ["stopped", "--resume goes on"]],
  ["a failure before its first step", [runEntry(), { kind: "end", reason: "failed", seconds: 1 }], ["failed", "The log has no reason."]],
  ["a linear probe", [runEntry({ options: { arch: "resnet50", rates: [0.4], batchSize: 1024, lr: 0.4 } }), stepEntry(0, { acc1: 12.5 }),
    { kind: "evaluation", epoch: 0, acc1: 55.5, acc5: 80, loss: 1.5, images: 10, best: true }],
    ["linear probe", "Accuracy 55.5 % best, after epoch 1", "All as upstream's main_lincls.py has them."]],
  ["a fine-tuning", [runEntry({ options: { arch: "vit_small", mixing: {}, batchSize: 64 } }), stepEntry(0)], ["fine-tuning", "DeiT's program"]],
])("a run with %s", async (_, log, words) => {
  const page = await pageOf(log);
  expectSound(page);
  for (const part of words) expect(text(page)).toContain(part);
});

test("runs side by side: final figures, options that differ, each run's events", async () => {
  const other = [runEntry({ options: { ...runEntry().options, temperature: 1 } }), ...steps(0, 40, { loss: 1 }), { kind: "end", reason: "finished", seconds: 1 } as LogEntry];
  const page = await pageOf(fullRun(), other);
  expectSound(page);
  const words = text(page);
  expect(words).toContain("Comparison of 2 runs");
  expect(words).toMatch(/Steps 31 40/);
  expect(words).toMatch(/Where the runs differ: option \S+ \S+ temperature 0\.2 1 /);
  expect(dataOf(page).runs.map(({ steps: { total } }) => total)).toEqual([31, 40]);
});

test("names tell runs apart", () => {
  const names = (...folders: string[]): string[] => runNames(folders.map((path) => ({ folder: path })));
  expect(names("/runs/a", "/runs/b/")).toEqual(["a", "b"]);
  expect(names("/x/run", "/y/run")).toEqual(["x/run", "y/run"]);
  expect(names("/x/run", "/x/run")).toEqual(["run", "run (2)"]);
});

test("pictures stand in a section of their own", async () => {
  const run = writeLog(join(folder, "pictures"), [runEntry()]);
  const figures = [{ id: "attention", title: "Attention", caption: "Where <it> looks.", body: "<svg></svg>" }];
  const { out, figures: shown } = await writeRunReport([run], { out: join(folder, "deep", "page.html"), figures });
  expect([out, shown]).toEqual([join(folder, "deep", "page.html"), 1]);
  const page = readFileSync(out, "utf8");
  expectSound(page);
  expect(page).toContain('<figure class="figure" id="attention"><h3>Attention</h3><figcaption class="small">Where &#60;it&#62; looks.</figcaption><svg></svg></figure>');
});

test("a report of nothing, and one that cannot be written", async () => {
  await expect(writeRunReport([join(folder, "nowhere")])).rejects.toThrow(/nowhere.log\.jsonl is not there; give the folder of a training, or --serve/);
  mkdirSync(join(folder, "silent"));
  writeFileSync(join(folder, "silent", "log.jsonl"), "");
  await expect(writeRunReport([join(folder, "silent")])).rejects.toThrow(/no line that begins a run/);
  const run = writeLog(join(folder, "whole"), [runEntry()]);
  await expect(writeRunReport([join(run, "log.jsonl")], { out: join(run, "log.jsonl", "page.html") })).rejects.toThrow(/cannot be written.*choose another --out/);
});
