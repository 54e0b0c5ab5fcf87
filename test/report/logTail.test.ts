import { appendFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { readRunLog } from "../../lib/report/index.js";
import { LogTail } from "../../lib/report/logTail.js";
import { RunLogError, type LogEntry } from "../../lib/report/runLog.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { runEntry, stepEntry } from "./run/sampleRun.js";

const folder = temporaryFolder("log-tail");
const all = (tail: LogTail): LogEntry[] => [...tail.read()].flat();
const line = (entry: LogEntry): string => `${JSON.stringify(entry)}\n`;

test("a log of many pieces is read whole, with characters that lie across their borders", () => {
  const path = join(folder, "long.jsonl");
  // 2.5 MB of two-byte characters: pieces end within one.
  const bad = Array.from({ length: 500 }, (_, i): LogEntry => ({ kind: "badImage", path: `${i}`, reason: "ü".repeat(2500 + (i % 3)) }));
  writeFileSync(path, [runEntry(), ...bad, stepEntry(0)].map(line).join(""));
  const entries = all(new LogTail(path));
  expect(entries).toHaveLength(502);
  expect(entries.slice(1, -1)).toEqual(bad);
  expect(readRunLog(path)).toMatchObject({ badImages: { length: 500 }, steps: [{ step: 0 }] });
});

test("what comes later is read later; half a line waits for the rest", () => {
  const path = join(folder, "live.jsonl");
  writeFileSync(path, line(runEntry()));
  const tail = new LogTail(path);
  expect(all(tail)).toHaveLength(1);
  expect(all(tail)).toEqual([]);
  const [start, rest] = [line(stepEntry(0)).slice(0, 20), line(stepEntry(0)).slice(20)];
  appendFileSync(path, start);
  expect(all(tail)).toEqual([]);
  expect(tail.last()).toEqual([]);
  appendFileSync(path, rest);
  expect(all(tail)).toEqual([stepEntry(0)]);
  appendFileSync(path, line(stepEntry(1)).trimEnd());
  expect([all(tail), tail.last()]).toEqual([[], [stepEntry(1)]]);
});

test("a cut line before a resumption is passed over, another is a fault, wherever reading paused", () => {
  for (const next of [line(runEntry({ firstStep: 1 })), line(stepEntry(1))]) {
    const path = join(folder, `cut${next.length}.jsonl`);
    writeFileSync(path, `${line(runEntry())}{"kind":"step","st\n`);
    const tail = new LogTail(path);
    expect(all(tail)).toHaveLength(1);
    appendFileSync(path, next);
    if (next.includes('"run"')) expect(all(tail)).toHaveLength(1);
    else expect(() => all(tail)).toThrow(/line 2 is not JSON.*delete the line/);
  }
});

test("zeros of a power cut and lines that are no entries are passed over; a file that is no log is refused", () => {
  const path = join(folder, "zeros.jsonl");
  writeFileSync(path, `${line(runEntry())}\0\0\0\n5\nnull\n"text"\n{}\n${line(stepEntry(0))}`);
  expect(all(new LogTail(path)).map(({ kind }) => kind)).toEqual(["run", "step"]);
  writeFileSync(path, Buffer.alloc(18 << 20, "x"));
  expect(() => all(new LogTail(path))).toThrow(RunLogError);
});

test("another file in its place is noticed", () => {
  const path = join(folder, "replaced.jsonl");
  writeFileSync(path, line(runEntry()) + line(stepEntry(0)));
  const tail = new LogTail(path);
  all(tail);
  expect(tail.isReplaced()).toBe(false);
  writeFileSync(join(folder, "new.jsonl"), line(runEntry({ started: "2026-01-02T03:05:00.000Z" })) + line(stepEntry(0)) + line(stepEntry(1)));
  renameSync(join(folder, "new.jsonl"), path);
  expect(tail.isReplaced()).toBe(true);
  writeFileSync(path, line(runEntry()));
  const shorter = new LogTail(path);
  all(shorter);
  writeFileSync(path, "");
  expect(shorter.isReplaced()).toBe(true);
});
