import { chmod, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from "@jest/globals";
import { BackgroundWriter } from "../../lib/checkpoint/background/backgroundWriter.js";
import { OrderedDict, readCheckpoint, writeCheckpoint, type CheckpointError } from "../../lib/checkpoint/index.js";
import { SnapshotMemory } from "../../lib/checkpoint/background/snapshot.js";
import * as torch from "../../lib/torch/index.js";
import { disposeTensors } from "../../lib/checkpoint/dispose.js";

let tensorsBefore: number;
let folder: string;
let writer: BackgroundWriter;

beforeAll(() => {
  tensorsBefore = torch.memory().tensors;
});
afterAll(() => {
  expect(torch.memory().tensors).toBe(tensorsBefore);
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "moco-background-"));
  writer = new BackgroundWriter();
});
afterEach(async () => {
  await writer.close();
  await rm(folder, { recursive: true });
  jest.restoreAllMocks();
});

/** Tensors of many kinds: shared storage, a view into the middle, transposed, empty, 0-dim, every element size, one with requiresGrad. */
function state(seed = 1): { value: Record<string, unknown>; weight: torch.Tensor } {
  torch.manualSeed(seed);
  return torch.scope(() => {
    const weight = torch.keep(torch.randn([300, 500]));
    const all = [
      weight.narrow(0, 100, 7), weight.t(), torch.empty([0, 3]), torch.tensor(3.5), torch.randn([33]).requiresGrad_(),
      torch.tensor([1, 0, 1]).to("bool"), torch.arange(9).to("int64"), torch.randn([5]).to("bfloat16"), torch.randn([4]).to("complex128"),
      torch.randn([6]).to("float8_e4m3fn"), torch.randn([2, 3]).to("float64"),
    ].map((tensor) => torch.keep(tensor));
    return { value: { epoch: seed, state_dict: new OrderedDict<string, unknown>([["weight", weight], ["others", all]]) }, weight };
  });
}

async function written(value: unknown, options = {}): Promise<Buffer> {
  const path = join(folder, "expected");
  await writeCheckpoint(path, value, options);
  const bytes = await readFile(path);
  await rm(path);
  return bytes;
}

async function failure(promise: Promise<unknown>): Promise<CheckpointError> {
  const error = await promise.then(() => null, (each: unknown) => each);
  expect(error).toMatchObject({ name: "CheckpointError" });
  return error as CheckpointError;
}

describe("a checkpoint written in the background", () => {
  const path = (): string => join(folder, "checkpoint.pth.tar");

  test.each([false, true])("has the bytes that writeCheckpoint writes, keepRequiresGrad %s", async (keepRequiresGrad) => {
    await writer.close();
    writer = new BackgroundWriter({ keepRequiresGrad });
    const { value } = state();
    const { done, stallMs } = await writer.save(path(), value);
    expect(stallMs).toBeGreaterThan(0);
    await done;
    const expected = await written(value, { keepRequiresGrad });
    expect((await readFile(path())).equals(expected)).toBe(true);
    expect(expected.equals(await written(value, { keepRequiresGrad: !keepRequiresGrad }))).toBe(false);
    expect(await readdir(folder)).toEqual(["checkpoint.pth.tar"]);
    disposeTensors(value);
  });

  test("is of the moment of saving, whatever becomes of the tensors", async () => {
    const { value, weight } = state();
    const expected = await written(value);
    const { done } = await writer.save(path(), value);
    torch.noGrad(() => weight.zero_());
    disposeTensors(value);
    await done;
    expect((await readFile(path())).equals(expected)).toBe(true);
  });

  test("is written while this thread does not come to rest", async () => {
    const { value } = state();
    const expected = await written(value);
    await writer.save(path(), value);
    const end = performance.now() + 30_000;
    const { readFileSync, existsSync } = await import("node:fs");
    // No await in this loop: nothing that needs this thread's event loop can happen.
    while (!existsSync(path()) && performance.now() < end);
    expect(readFileSync(path()).equals(expected)).toBe(true);
    disposeTensors(value);
  });

  test("follows the one before, in the same memory, grown where the state has", async () => {
    const [small, large] = [{ x: torch.keep(torch.ones([1000])) }, state(2).value];
    writer.reserve(small);
    for (const [name, value] of [["a", small], ["b", large], ["c", small]] as const) await writer.save(join(folder, name), value);
    await writer.flush();
    for (const [name, value] of [["a", small], ["b", large], ["c", small]] as const) {
      expect((await readFile(join(folder, name))).equals(await written(value))).toBe(true);
    }
    disposeTensors(small);
    disposeTensors(large);
  });

  test("is one at a time, also for callers that do not wait", async () => {
    const values = [1, 2, 3].map((seed) => state(seed).value);
    const saves = await Promise.all(values.map((value, i) => writer.save(join(folder, `${i}`), value)));
    await Promise.all(saves.map(({ done }) => done));
    for (const [i, value] of values.entries()) expect((await readFile(join(folder, `${i}`))).equals(await written(value))).toBe(true);
    values.forEach(disposeTensors);
  });

  test("is in place when close has waited", async () => {
    const { value } = state();
    const { done } = await writer.save(path(), value);
    let settled = false;
    void done.then(() => (settled = true));
    await writer.close();
    expect(settled).toBe(true);
    expect((await readCheckpoint<{ epoch: number }>(path()).then((read) => (disposeTensors(read), read.epoch)))).toBe(1);
    disposeTensors(value);
  });

  test("is written before save returns where that is asked for, with no thread and no copy", async () => {
    await writer.close();
    writer = new BackgroundWriter({ synchronous: true });
    const { value } = state();
    const tensors = torch.memory().tensors;
    writer.reserve(value);
    await writer.save(path(), value);
    expect((await readFile(path())).equals(await written(value))).toBe(true);
    expect(torch.memory().tensors).toBe(tensors);
    disposeTensors(value);
  });
});

describe("a save in the background that fails", () => {
  const missing = (): string => join(folder, "missing", "checkpoint.pth.tar");

  test.each(["done", "flush"])("tells so by %s, and once", async (by) => {
    const value = { x: torch.keep(torch.ones([3])) };
    const save = await writer.save(missing(), value);
    const error = await failure(by === "done" ? save.done : writer.flush());
    expect(error).toMatchObject({ file: missing(), message: expect.stringMatching(/cannot be written: ENOENT.*Create the folder first/) });
    expect(error.cause).toMatchObject({ code: "ENOENT" });
    await writer.flush();
    disposeTensors(value);
  });

  test("tells so at the next save, which then writes nothing; the one after does", async () => {
    const value = { x: torch.keep(torch.ones([3])) };
    const good = join(folder, "good");
    await writer.save(missing(), value);
    expect((await failure(writer.save(good, value))).file).toBe(missing());
    expect(await readdir(folder)).toEqual([]);
    await writer.save(good, value);
    await writer.flush();
    expect(await readdir(folder)).toEqual(["good"]);
    disposeTensors(value);
  });

  test("leaves what was there, and no temporary file", async () => {
    if (process.getuid?.() === 0) return; // nothing is unwritable for root
    const value = { x: torch.keep(torch.ones([3])) };
    await writer.save(join(folder, "x"), value);
    await writer.flush();
    await chmod(folder, 0o555);
    try {
      await writer.save(join(folder, "x"), value);
      expect((await failure(writer.flush())).message).toMatch(/EACCES.*Choose a folder/);
    } finally {
      await chmod(folder, 0o755);
    }
    expect(await readdir(folder)).toEqual(["x"]);
    disposeTensors(value);
  });

  test("of a value that Python does not have begins nothing", async () => {
    expect((await failure(writer.save(join(folder, "x"), { f: () => 1 }))).message).toMatch(/f/);
    await writer.flush();
    expect(await readdir(folder)).toEqual([]);
  });

  test("for want of memory says what to do", async () => {
    const value = { x: torch.keep(torch.ones([3])) };
    jest.spyOn(SnapshotMemory.prototype, "reserve").mockImplementation(() => {
      throw new RangeError("Array buffer allocation failed");
    });
    const { message } = await failure(writer.save(join(folder, "x"), value));
    expect(message).toMatch(/12 bytes of tensors cannot be copied: Array buffer allocation failed; save synchronously/);
    disposeTensors(value);
  });

  /** Makes the next message to a thread end it. */
  function killThread(): void {
    jest.spyOn(Worker.prototype, "postMessage").mockImplementationOnce(function (this: Worker) {
      void this.terminate();
    });
  }

  test("because its thread was ended says so, and the next save has another thread", async () => {
    const value = { x: torch.keep(torch.ones([2000, 2000])) };
    killThread();
    const { done } = await writer.save(join(folder, "x"), value);
    expect((await failure(done)).message).toMatch(/it was not written: the thread that writes checkpoints ended with code \d/);
    await writer.save(join(folder, "x"), value);
    await writer.flush();
    expect((await readFile(join(folder, "x"))).equals(await written(value))).toBe(true);
    disposeTensors(value);
  });

  test("is not one whose thread had ended before", async () => {
    const value = { x: torch.keep(torch.ones([3])) };
    killThread();
    writer.reserve(value); // goes to the thread that ends
    await new Promise((resolve) => setTimeout(resolve, 500));
    await writer.save(join(folder, "x"), value);
    await writer.flush();
    expect(await readdir(folder)).toEqual(["x"]);
    disposeTensors(value);
  });
});
