import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { CheckpointError } from "../../lib/checkpoint/index.js";
import { readRunLog } from "../../lib/report/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { memorySource } from "../data/pixels.js";
import { runTiny } from "./tinyRun.js";

expectNoTensorsLeft();
let root: string;
let whole: string;
let counter = 0;
const folder = (): string => join(root, `run-${counter++}`);
const last = "checkpoint_0001.pth.tar";
const bytes = (out: string, name = last): Buffer => readFileSync(join(out, name));

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "moco-auto-"));
  whole = folder();
  await runTiny({ out: whole });
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

test("the same options again and again come to the end of an undisturbed run, and then do nothing", async () => {
  const out = folder();
  const starts: (string | null)[] = [];
  for (let reason = ""; reason !== "finished";) {
    const { result } = await runTiny({ out, autoResume: true, stopAfter: 2 }, { onStart: ({ resumedFrom }) => void starts.push(resumedFrom) });
    reason = result.reason;
  }
  expect(starts).toEqual([null, join(out, "checkpoint_0000_step_000002.pth.tar"), join(out, "checkpoint_0001_step_000001.pth.tar")]);
  expect(bytes(out).equals(bytes(whole))).toBe(true);
  const warnings: string[] = [];
  const { result } = await runTiny({ out, autoResume: true }, { onWarning: (message) => void warnings.push(message) });
  expect([result.reason, result.steps]).toEqual(["finished", 0]);
  expect(warnings).toEqual([expect.stringContaining("nothing is left to do: 2 of 2 epochs are done")]);
});

test("a checkpoint or an encoder to begin with counts only while the folder has none", async () => {
  const out = folder();
  const from: (string | null)[] = [];
  const hooks = { onStart: ({ resumedFrom }: { resumedFrom: string | null }): void => void from.push(resumedFrom) };
  const resume = join(whole, "checkpoint_0000.pth.tar");
  await runTiny({ out, autoResume: true, resume, stopAfter: 1 }, hooks);
  await runTiny({ out, autoResume: true, resume }, hooks);
  expect(from).toEqual([resume, join(out, "checkpoint_0001_step_000001.pth.tar")]);
  expect(bytes(out).equals(bytes(whole))).toBe(true);

  const second = folder();
  await runTiny({ out: second, autoResume: true, init: whole, stopAfter: 1 }, hooks);
  await runTiny({ out: second, autoResume: true, init: whole, stopAfter: 1 }, hooks);
  expect(from.slice(2)).toEqual([null, join(second, "checkpoint_0000_step_000001.pth.tar")]);
});

describe("a damaged checkpoint", () => {
  const damages: [string, (path: string) => void][] = [
    ["cut", (path) => truncateSync(path, 5000)],
    ["empty", (path) => truncateSync(path, 0)],
    ["zeros", (path) => writeFileSync(path, new Uint8Array(readFileSync(path).length))],
    ["one other byte among the weights", (path) => {
      const content = readFileSync(path);
      content[content.length >> 1]! ^= 1;
      writeFileSync(path, content);
    }],
  ];

  test.each(damages)("(%s) is kept aside, loudly, and the run goes on from the one before", async (_, damage) => {
    const out = folder();
    await runTiny({ out, saveEverySteps: 1, stopAfter: 5 });
    const newest = "checkpoint_0001_step_000002.pth.tar";
    damage(join(out, newest));
    const damaged = bytes(out, newest);
    const warnings: string[] = [];
    const from: (string | null)[] = [];
    const hooks = { onWarning: (message: string) => void warnings.push(message), onStart: ({ resumedFrom }: { resumedFrom: string | null }) => {
      from.push(resumedFrom);
      // Until the next one is saved.
      expect(readlinkSync(join(out, "last.pth.tar"))).toBe("checkpoint_0000.pth.tar");
    } };
    await runTiny({ out, autoResume: true }, hooks);
    expect(warnings).toEqual([expect.stringMatching(new RegExp(`${newest} is damaged.*kept as .*${newest}.damaged.*goes on from .*checkpoint_0000.pth.tar`, "s"))]);
    expect(from).toEqual([join(out, "checkpoint_0000.pth.tar")]);
    expect(bytes(out, `${newest}.damaged`).equals(damaged)).toBe(true);
    expect(bytes(out).equals(bytes(whole))).toBe(true);
    expect(readRunLog(join(out, "log.jsonl")).steps.map(({ step }) => step)).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test("without autoResume is an error, and where no other loads it is one too", async () => {
    const out = folder();
    await runTiny({ out, stopAfter: 4 });
    const names = readdirSync(out).filter((name) => name.startsWith("checkpoint_"));
    expect(names.length).toBe(2);
    truncateSync(join(out, names[1]!), 100);
    await expect(runTiny({ out, resume: out })).rejects.toThrow(CheckpointError);
    truncateSync(join(out, names[0]!), 100);
    await expect(runTiny({ out, autoResume: true })).rejects.toThrow(/damaged, and so is every other checkpoint in .*begin anew with another --out/s);
    expect(names.every((name) => existsSync(join(out, name)))).toBe(true);
  });
});

test("options that differ are told, or refused, as by resume", async () => {
  const out = folder();
  await runTiny({ out, stopAfter: 1 });
  await expect(runTiny({ out, autoResume: true, batchSize: 3 })).rejects.toThrow(/batchSize is 3 and was 4/);
  const warnings: string[] = [];
  await runTiny({ out, autoResume: true, lr: 2e-3, stopAfter: 1 }, { onWarning: (message) => void warnings.push(message) });
  expect(warnings).toEqual([expect.stringContaining("lr is 0.002 and was 0.001")]);
  await expect(runTiny({ autoResume: true })).rejects.toThrow(/autoResume.*out is not given.*--out/);
});

test("a stop does not wait for an image that does not come, and saves the steps that are done", async () => {
  const out = folder();
  const stop = new AbortController();
  const images = memorySource(13);
  let asked = 0;
  let release = (): void => undefined;
  const hangs = new Promise<void>((resolve) => (release = resolve));
  const data = { ...images, image: async (index: number) => {
    if (++asked > 9) await hangs;
    return images.image(index);
  } };
  const started = performance.now();
  const { result } = await runTiny({ data, out }, {
    signal: stop.signal, onStep: ({ step }) => void (step === 1 && setTimeout(() => stop.abort("SIGTERM"), 200)),
  });
  expect([result.reason, result.steps, result.checkpoint]).toEqual(["interrupted", 2, join(out, "checkpoint_0000_step_000002.pth.tar")]);
  expect(performance.now() - started).toBeLessThan(10_000);
  release(); // its memory is freed once it has come
  await runTiny({ out, autoResume: true });
  expect(bytes(out).equals(bytes(whole))).toBe(true);
}, 30_000);

test("one that comes before the first step leaves no checkpoint", async () => {
  const out = folder();
  const { result } = await runTiny({ out }, { signal: AbortSignal.abort("SIGTERM") });
  expect([result.reason, result.steps, result.checkpoint]).toEqual(["interrupted", 0, null]);
  expect(readdirSync(out)).toEqual(["log.jsonl"]);
});
