/** What fails in a logger stays there. */
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "@jest/globals";
import { Loggers, type LogEntry, type RunLogger } from "../../lib/report/index.js";
import { runEntry, stepEntry } from "./logEntries.js";

function heard(loggers: RunLogger[], closeMs?: number): { told: Loggers; warnings: string[] } {
  const warnings: string[] = [];
  return { told: new Loggers(loggers, { folder: null, warn: (message) => warnings.push(message) }, closeMs), warnings };
}

const steps = (entries: LogEntry[]): number[] => entries.flatMap((entry) => (entry.kind === "step" ? entry.step : []));

class Listening implements RunLogger {
  readonly entries: LogEntry[] = [];
  log(entry: LogEntry): void {
    this.entries.push(entry);
  }
}

test.each([
  ["throws", () => { throw new Error("no space"); }],
  ["rejects", () => Promise.reject(new Error("no space"))],
  ["throws what is no error", () => { throw "no space"; }],
])("a logger that %s is warned of once, closed and left alone; the others go on", async (_, fail) => {
  let calls = 0;
  let closed = 0;
  const failing: RunLogger = { name: "mine", log: () => (++calls === 2 ? fail() : undefined), close: () => void closed++ };
  const other = new Listening();
  const { told, warnings } = heard([failing, other]);
  for (let step = 0; step < 4; step++) {
    told.log(stepEntry(step));
    await delay(1);
  }
  await told.close();
  expect(calls).toBe(2);
  expect(closed).toBe(1);
  expect(warnings).toEqual(["mine fails and is switched off; the training goes on without it: no space"]);
  expect(steps(other.entries)).toEqual([0, 1, 2, 3]);
});

test("a class is called by its name, and failures of start and close are told too", async () => {
  class Sheet extends Listening {
    start(): void {
      throw new Error("at the start");
    }
  }
  class Board extends Listening {
    close(): Promise<void> {
      return Promise.reject(new Error("at the end"));
    }
  }
  const sheet = new Sheet();
  const { told, warnings } = heard([sheet, new Board(), { log: () => { throw new Error("at once"); } }]);
  told.log(runEntry());
  await told.close();
  expect(warnings.map((each) => each.replace(/ fails.*: /, ": "))).toEqual(["Sheet: at the start", "a logger: at once", "Board: at the end"]);
  expect(sheet.entries).toEqual([]);
});

test("calls of a slow logger come one after another, and the end waits for them", async () => {
  const order: string[] = [];
  const slow: RunLogger = {
    async log(entry) {
      order.push(`begin ${(entry as { step: number }).step}`);
      await delay(5);
      order.push(`end ${(entry as { step: number }).step}`);
    },
    close: () => void order.push("close"),
  };
  const { told } = heard([slow]);
  for (let step = 0; step < 3; step++) told.log(stepEntry(step));
  expect(order).toEqual(["begin 0"]);
  await told.close();
  expect(order).toEqual(["begin 0", "end 0", "begin 1", "end 1", "begin 2", "end 2", "close"]);
});

test("one that hangs is left behind, and what it cannot take is not kept for ever", async () => {
  const { told, warnings } = heard([{ name: "stuck", log: () => new Promise(() => undefined) }], 20);
  for (let step = 0; step < 10_010; step++) told.log(stepEntry(step));
  await told.close();
  expect(warnings).toEqual([
    "stuck does not keep up: 10,000 calls wait for it, so some are left out from here on", "stuck was not done 0.02 s after the end, and is left behind",
  ]);
});

test("pictures and histograms are made only where somebody takes them", () => {
  const { told } = heard([new Listening()]);
  expect([told.takeImages, told.takeHistograms]).toEqual([false, false]);
  const { told: other } = heard([{ log: () => undefined, images: () => { throw new Error("none"); }, histogram: () => undefined }]);
  expect([other.takeImages, other.takeHistograms]).toEqual([true, true]);
  other.images("a", { png: new Uint8Array(), width: 1, height: 1 }, { step: 0, epoch: 0 });
  expect([other.takeImages, other.takeHistograms]).toEqual([false, false]);
});
