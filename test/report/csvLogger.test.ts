import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { CsvLogger, type LogEntry } from "../../lib/report/index.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { endEntry, evaluationEntry, knnEntry, runEntry, stepEntry, watched } from "./logEntries.js";

const root = temporaryFolder("csv");
let count = 0;
const newFile = (): string => join(root, `${count++}`, "table.csv");

function logged(file: string, entries: readonly LogEntry[]): void {
  const logger = new CsvLogger({ file });
  logger.start({ folder: null, warn: () => undefined });
  for (const entry of entries) logger.log(entry);
  logger.close();
}

/** The cells of a file without line breaks in them, as RFC 4180 has it. */
function rows(file: string): Record<string, string>[] {
  const lines = readFileSync(file, "utf8").split("\n");
  expect(lines.pop()).toBe("");
  const [header, ...cells] = lines.map((line) => [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^",]*))/g)].map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain!));
  for (const row of cells) expect(row).toHaveLength(header!.length);
  return cells.map((row) => Object.fromEntries(header!.map((name, i) => [name, row[i]!])));
}

test("a row for each step, with every column whatever the entry has, and rows for what comes after an epoch", () => {
  const file = newFile();
  logged(file, [
    runEntry(), stepEntry(0), stepEntry(1, { ...watched, action: "skipped", gradientNorm: null }), stepEntry(2, { momentum: undefined, acc1: 25 }), knnEntry(0),
    evaluationEntry(0), { kind: "warning", step: 2, what: "w", message: "m" }, endEntry(),
  ]);
  const found = rows(file);
  expect(found.map(({ step, epoch }) => [step, epoch])).toEqual([["0", "0"], ["1", "0"], ["2", "0"], ["2", "0"], ["2", "0"]]);
  expect(found[0]).toMatchObject({ "train/loss": "10", "train/momentum": "0.99", "train/acc1": "", "stability/positive": "", alerts: "", action: "" });
  expect(found[1]).toMatchObject({
    "train/gradient_norm": "", "stability/gradient_norm_stem": "", "stability/gradient_norm_projector": "3", "stability/positive": "0.5",
    action: "skipped", alerts: 'stem ×12, "sharp"; collapse',
  });
  expect(found[2]).toMatchObject({ "train/momentum": "", "train/acc1": "25" });
  expect(found[3]).toMatchObject({ "train/loss": "", "knn/acc5": "90", "val/acc1": "" });
  expect(found[4]).toMatchObject({ "val/acc1": "40", "val_average/loss": "1.4" });
  const plain = newFile();
  logged(plain, [runEntry({ options: {} })]);
  expect(readFileSync(file, "utf8").split("\n")[0]).toBe(readFileSync(plain, "utf8").trim());
});

test("a line break in a cell does not break the row", () => {
  const file = newFile();
  logged(file, [runEntry(), stepEntry(0, { signals: { alerts: ["two\r\nlines"] } })]);
  expect(rows(file)[0]).toMatchObject({ alerts: "two lines" });
});

test.each([
  ["after a stop", (_: string) => undefined, 5],
  ["after a kill in the middle of a row", (file: string) => appendFileSync(file, "8,2,1."), 5],
  ["after an epoch", (_: string) => undefined, 6],
  ["from its beginning in a checkpoint of step 0", (_: string) => undefined, 1],
])("a run that is resumed %s has each step once", (_, harm, firstStep) => {
  const file = newFile();
  logged(file, [runEntry(), ...[0, 1, 2, 3, 4, 5].map((step) => stepEntry(step)), knnEntry(1), stepEntry(6), stepEntry(7)]);
  harm(file);
  logged(file, [runEntry({ firstStep, resumedFrom: "x" }), ...Array.from({ length: 9 - firstStep }, (_, i) => stepEntry(firstStep + i, { loss: 100 }))]);
  const kept = [0, 1, 2, 3, 4, 5, ...(firstStep === 6 ? [5] : [])].filter((step) => step < firstStep);
  expect(rows(file).map(({ step }) => Number(step))).toEqual([...kept, ...Array.from({ length: 9 - firstStep }, (_, i) => firstStep + i)]);
  expect(rows(file).filter((row) => row["train/loss"] === "100")).toHaveLength(9 - firstStep);
});

test("a large table is cut in the right place", () => {
  const file = newFile();
  logged(file, [runEntry(), ...Array.from({ length: 20_000 }, (_, step) => stepEntry(step))]);
  expect(readFileSync(file).length).toBeGreaterThan(1 << 20);
  logged(file, [runEntry({ firstStep: 19_001 }), stepEntry(19_001)]);
  expect(rows(file).map(({ step }) => Number(step))).toEqual(Array.from({ length: 19_002 }, (_, step) => step));
});

test("a run that begins anew leaves the table of another, and another kind of file altogether", () => {
  const file = newFile();
  for (const loss of [1, 2, 3]) logged(file, [runEntry(), stepEntry(0, { loss })]);
  expect([file, `${file}.1`, `${file}.2`].map((path) => rows(path)[0]!["train/loss"])).toEqual(["3", "1", "2"]);
  writeFileSync(file, "a,b\n1,2\n");
  expect(() => logged(file, [runEntry({ firstStep: 3 })])).toThrow(/holds another table/);
  expect(readFileSync(file, "utf8")).toBe("a,b\n1,2\n");
});

test("a disk that is full is the logger's error, and a device is not read", () => {
  const logger = new CsvLogger({ file: "/dev/full" });
  logger.start({ folder: null, warn: () => undefined });
  expect(() => logger.log(runEntry())).toThrow(/ENOSPC/);
  logger.close();
  logged("/dev/null", [runEntry({ firstStep: 3 }), stepEntry(3)]);
});

test("the table is in the run's folder where nothing else is said", () => {
  const logger = new CsvLogger();
  logger.start({ folder: join(root, "run"), warn: () => undefined });
  logger.log(runEntry());
  logger.close();
  expect(existsSync(join(root, "run", "log.csv"))).toBe(true);
  expect(() => new CsvLogger().start({ folder: null, warn: () => undefined })).toThrow(/give a file/);
});
