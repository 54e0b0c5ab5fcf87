import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { findLibtorch } from "../../lib/setup/findLibtorch.js";
import { withLock } from "../../lib/setup/lock.mjs";
import { configFor, type FakeIndex, fakeIndex, temporaryFolder, torchWheel } from "./fakeTorch.js";

const script = fileURLToPath(new URL("./setupProcess.js", import.meta.url));
let folder: string;
let cache: string;
beforeEach(() => {
  folder = temporaryFolder("concurrent");
  cache = join(folder, "cache");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

// Each file is forced to the disk, so many of them take long enough to be interrupted.
const manyHeaders = Array.from({ length: 500 }, (_, index) => ({ path: `torch/include/header${index}.h`, content: `// ${index}` }));

interface Run {
  readonly child: ChildProcess;
  readonly ended: Promise<{ code: number | null; out: string; log: string }>;
}

function startSetup({ python, wheels }: FakeIndex): Run {
  const child = spawn(process.execPath, [script, cache, python, JSON.stringify(wheels)], { stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let log = "";
  child.stdout!.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr!.on("data", (chunk: Buffer) => (log += chunk.toString()));
  return { child, ended: new Promise((resolve) => child.on("close", (code) => resolve({ code, out, log }))) };
}

test("a set-up that is killed while it unpacks leaves no library; the next one does it all", async () => {
  const index = fakeIndex(folder, torchWheel("2.11.0", manyHeaders));
  const first = startSetup(index);
  const unpacking = join(cache, "unpacking");
  const filesUnpacked = (): number => (existsSync(unpacking) ? readdirSync(unpacking, { recursive: true }).length : 0);
  while (filesUnpacked() < 20) await sleep(2);
  first.child.kill("SIGKILL");
  await first.ended;
  expect(existsSync(unpacking)).toBe(true);
  expect(existsSync(join(cache, "setup.lock"))).toBe(true);
  expect(() => findLibtorch(configFor(cache))).toThrow("no libtorch in");

  const second = await startSetup(index).ended;
  expect(second).toMatchObject({ code: 0 });
  expect(findLibtorch(configFor(cache)).root).toBe(second.out);
  expect(readdirSync(join(second.out, "include"))).toHaveLength(501);
  expect(readdirSync(cache)).toEqual(["libtorch-2.11.0-cpu"]);
  // The wheel had been fetched and checked: it is not fetched again.
  expect(index.calls()).toHaveLength(1);
});

test("of two set-ups at once, one fetches and the other waits and takes the result", async () => {
  const index = fakeIndex(folder, torchWheel("2.11.0", manyHeaders));
  const runs = await Promise.all([startSetup(index).ended, startSetup(index).ended]);
  expect(runs.map(({ code }) => code)).toEqual([0, 0]);
  expect(runs[0]!.out).toBe(runs[1]!.out);
  expect(index.calls()).toHaveLength(1);
  expect(runs.filter(({ log }) => /Waiting for the set-up that process \d+ has begun/.test(log))).toHaveLength(1);
});

test("a lock keeps its order, and passes on when its work fails", async () => {
  const lock = join(folder, "a", "lock");
  const order: string[] = [];
  const first = withLock(lock, async () => {
    order.push("first in");
    await sleep(300);
    order.push("first out");
    throw new Error("failed");
  });
  const second = withLock(lock, () => order.push("second"), { onWait: (holder) => order.push(`waits for ${holder}`) });
  await expect(first).rejects.toThrow("failed");
  await second;
  expect(order).toEqual(["first in", `waits for process ${process.pid}`, "first out", "second"]);
  expect(existsSync(lock)).toBe(false);
});

test.each([
  ["a process that is gone", { pid: 2 ** 22 + 1, host: hostname(), started: "1" }, 0],
  ["a process id that is used again", { pid: process.pid, host: hostname(), started: "1" }, 0],
  ["another machine that has been silent", { pid: 1, host: "elsewhere", started: "1" }, 3600],
  ["a process that died before it wrote", null, 3600],
])("a lock is taken over from %s", async (_name, holder, age) => {
  if (holder?.pid === process.pid && process.platform !== "linux") return; // start times come from /proc
  const lock = join(folder, "lock");
  writeFileSync(lock, holder ? JSON.stringify(holder) : "");
  utimesSync(lock, Date.now() / 1000 - age, Date.now() / 1000 - age);
  // Two that wait see it abandoned at once: still one after the other.
  let inside = 0;
  const work = async (): Promise<number> => {
    inside += 1;
    const seen = inside;
    await sleep(20);
    inside -= 1;
    return seen;
  };
  expect(await Promise.all([withLock(lock, work), withLock(lock, work)])).toEqual([1, 1]);
  expect(readdirSync(folder).filter((each) => each.startsWith("lock"))).toEqual([]);
});
