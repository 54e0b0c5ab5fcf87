import { spawn, spawnSync } from "node:child_process";
import {
  existsSync, linkSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, renameSync, rmSync, symlinkSync,
  utimesSync, writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { diskFiles, writeDurably, type FileLayer } from "../../lib/checkpoint/files/durableFile.js";
import { writeCheckpoint } from "../../lib/checkpoint/index.js";
import { ABANDONED_AFTER, temporaryOwner, temporaryPath } from "../../lib/checkpoint/files/temporaryFile.js";
import {
  CheckpointNotFoundError, checkpointName, checkpointsIn, findCheckpoint, requireFreshFolder, RunFolderError, type Position,
} from "../../lib/train/runs/checkpointFiles.js";
import { CheckpointFolder, CheckpointSaveError, type CheckpointFolderOptions } from "../../lib/train/runs/checkpointFolder.js";
import { requireRetention, RetentionError, superseded } from "../../lib/train/runs/checkpointRetention.js";

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "moco-folder-"))));
afterEach(() => rmSync(folder, { recursive: true }));

const last = (): string => join(folder, "last.pth.tar");
const read = (path: string): string => readFileSync(path, "utf8");
const whole = (epoch: number): string => checkpointName({ epoch, step: 0 });
const names = (): string[] => readdirSync(folder).sort();

/** Saves files that hold their own name. */
async function saveAll(positions: readonly Position[], options: CheckpointFolderOptions = {}): Promise<string[][]> {
  const run = await CheckpointFolder.open(folder, options);
  const removed: string[][] = [];
  for (const position of positions) {
    const saved = await run.save(position, (path) =>
      writeDurably(path, (sink) => sink.write(Buffer.from(checkpointName(position))), options.files));
    expect(saved).toMatchObject({ path: join(folder, checkpointName(position)), warning: null });
    expect(run.newest).toBe(saved.path);
    removed.push(saved.removed);
  }
  return removed;
}

const epochs = (...numbers: number[]): Position[] => numbers.map((epoch) => ({ epoch, step: 0 }));

/** The disk with some operations that fail. */
function failing(code: string, ...operations: (keyof FileLayer)[]): FileLayer {
  const fail = async (): Promise<never> => { throw Object.assign(new Error(`${code}: injected`), { code }); };
  return { ...diskFiles, ...Object.fromEntries(operations.map((name) => [name, fail])) };
}

describe("which checkpoints a newer one makes superfluous", () => {
  const all = (count: number): string[] => Array.from({ length: count }, (_, i) => whole(i + 1));
  const numbers = (found: string[]): number[] => found.map((name) => Number(/\d+/.exec(name)![0]));

  test.each([
    ["none without a limit", 6, {}, []],
    ["all but the newest", 6, { keep: 1 }, [0, 1, 2, 3, 4]],
    ["all but the three newest", 6, { keep: 3 }, [0, 1, 2]],
    ["none while there are few", 3, { keep: 3 }, []],
    ["but those after every third epoch", 10, { keep: 2, keepEvery: 3 }, [0, 1, 3, 4, 6, 7]],
    ["all but the newest and those after every fourth epoch", 9, { keepEvery: 4 }, [0, 1, 2, 4, 5, 6]],
    ["none where every epoch's stays", 5, { keep: 1, keepEvery: 1 }, []],
  ])("%s", (_, count, retention, expected) => {
    const found = superseded([...all(count), "log.jsonl", "last.pth.tar"], whole(count), retention);
    expect(numbers(found)).toEqual(expected);
  });

  test("those from the middle of an epoch, always, oldest first", () => {
    const middle = (epoch: number, step: number): string => checkpointName({ epoch, step });
    const present = [middle(2, 20), whole(2), middle(0, 0), middle(2, 10), whole(1), middle(1, 5)];
    expect(superseded(present, whole(3), {})).toEqual([middle(0, 0), middle(1, 5), middle(2, 10), middle(2, 20)]);
    // Such a one is not counted among those to keep.
    expect(superseded(present, middle(2, 20), { keep: 1 })).toEqual([middle(0, 0), whole(1), middle(1, 5), middle(2, 10)]);
  });

  test("never those that are further, nor other files", () => {
    const foreign = ["checkpoint_0001.pth.tar.bak", "my_checkpoint_0001.pth.tar", "checkpoint_1.pth.tar"];
    expect(superseded([...foreign, whole(7), checkpointName({ epoch: 5, step: 3 })], whole(4), { keep: 1 })).toEqual([]);
  });

  test.each([{ keep: 0 }, { keep: 1.5 }, { keepEvery: -1 }, { keepEvery: NaN }])("%j is refused", async (retention) => {
    expect(() => requireRetention(retention)).toThrow(RetentionError);
    await expect(CheckpointFolder.open(folder, retention)).rejects.toThrow(/must be a whole number from 1/);
  });
});

describe("a run's folder", () => {
  test("leads to the newest checkpoint by a relative link, and removes what is superfluous", async () => {
    expect(await saveAll([...epochs(1, 2), { epoch: 2, step: 7 }, ...epochs(3)], { keep: 2 })).toEqual([
      [], [], [], [whole(1), checkpointName({ epoch: 2, step: 7 })],
    ]);
    expect(names()).toEqual([whole(2), whole(3), "last.pth.tar"]);
    expect(readlinkSync(last())).toBe(whole(3));
    // So that the folder may be moved.
    const moved = `${folder}-moved`;
    renameSync(folder, moved);
    expect(read(join(moved, "last.pth.tar"))).toBe(whole(3));
    renameSync(moved, folder);
  });

  test("is made, with those above it", async () => {
    const deep = join(folder, "a", "b", "c");
    expect((await CheckpointFolder.open(deep)).path).toBe(deep);
    expect(lstatSync(deep).isDirectory()).toBe(true);
  });

  test("leaves alone what is not its own", async () => {
    const outside = join(folder, "outside");
    writeFileSync(outside, "the user's");
    symlinkSync("outside", last());
    mkdirSync(join(folder, whole(1)));
    for (const name of ["log.jsonl", "checkpoint_0000.pth.tar.bak", whole(9)]) writeFileSync(join(folder, name), name);
    await saveAll(epochs(2, 3), { keep: 1 });
    expect(names()).toEqual([whole(1), "checkpoint_0000.pth.tar.bak", whole(3), whole(9), "last.pth.tar", "log.jsonl", "outside"]);
    expect(read(outside)).toBe("the user's");
    expect(readlinkSync(last())).toBe(whole(3));
  });

  test("does not remove what another program has led the pointer to", async () => {
    await saveAll(epochs(1, 2));
    const files: FileLayer = { ...diskFiles, readLink: async () => whole(1) };
    expect(await saveAll(epochs(3), { keep: 1, files })).toEqual([[whole(2)]]);
    expect(names()).toEqual([whole(1), whole(3), "last.pth.tar"]);
  });

  test("has a second name for the newest checkpoint where there are no symbolic links", async () => {
    const files = failing("EPERM", "symlink");
    await saveAll(epochs(1, 2, 3), { keep: 1, files });
    expect(lstatSync(last()).ino).toBe(lstatSync(join(folder, whole(3))).ino);
    // The same one again: a rename between two names of one file does nothing.
    const run = await CheckpointFolder.open(folder, { keep: 1, files });
    await run.save({ epoch: 3, step: 0 }, async () => undefined);
    expect(names()).toEqual([whole(3), "last.pth.tar"]);
  });

  test("has a copy of the newest checkpoint where there are no links at all", async () => {
    await saveAll(epochs(1, 2, 3), { keep: 1, files: failing("ENOTSUP", "symlink", "link") });
    expect(names()).toEqual([whole(3), "last.pth.tar"]);
    expect(lstatSync(last())).toMatchObject({ nlink: 1 });
    expect(lstatSync(last()).isFile()).toBe(true);
    expect(read(last())).toBe(whole(3));
  });

  test("saves in the order of the calls, though they overlap and one fails", async () => {
    const run = await CheckpointFolder.open(folder);
    const log: string[] = [];
    const save = (epoch: number, ms: number, fails = false): Promise<unknown> => run.save({ epoch, step: 0 }, async (path) => {
      log.push(`begin ${epoch}`);
      await wait(ms);
      log.push(`end ${epoch}`);
      if (fails) throw new Error("no");
      writeFileSync(path, "");
    });
    const results = await Promise.allSettled([save(1, 30), save(2, 10, true), save(3, 0)]);
    expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(log).toEqual([1, 2, 3].flatMap((epoch) => [`begin ${epoch}`, `end ${epoch}`]));
    expect(readlinkSync(last())).toBe(whole(3));
  });
});

describe("a save that fails", () => {
  test("tells what is kept when the disk is full, and removes nothing", async () => {
    await saveAll(epochs(1, 2));
    const run = await CheckpointFolder.open(folder, { keep: 1, files: failing("ENOSPC", "create") });
    const error = await run.save({ epoch: 3, step: 0 }, (path) => writeDurably(path, async () => {}, failing("ENOSPC", "create")))
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(CheckpointSaveError);
    expect(error).toMatchObject({
      name: "CheckpointSaveError", stage: "write", code: "ENOSPC", path: join(folder, whole(3)), kept: join(folder, whole(2)),
      message: expect.stringMatching(
        /0002\.pth\.tar cannot be saved: ENOSPC.*Free some space.*--keep.*checkpoint_0001\.pth\.tar is complete.*--resume/s,
      ),
    });
    expect(names()).toEqual([whole(1), whole(2), "last.pth.tar"]);
  });

  test("does not repeat what the writer of checkpoints has said", async () => {
    await saveAll(epochs(1));
    const run = await CheckpointFolder.open(folder);
    const error = await run.save({ epoch: 2, step: 0 }, (path) => writeCheckpoint(path, { a: 1 }, { files: failing("EDQUOT", "create") }))
      .catch((thrown: Error) => thrown) as CheckpointSaveError;
    expect(error).toMatchObject({ code: "EDQUOT", kept: join(folder, whole(1)) });
    expect(error.message.match(/checkpoint_0001|free some space/gi)).toEqual(["checkpoint_0001", "Free some space"]);
    expect(error.message).toMatch(/untouched\. checkpoint_0000\.pth\.tar is complete: go on from it by --resume/);
  });

  test("says so when there was nothing before", async () => {
    const run = await CheckpointFolder.open(folder);
    await expect(run.save({ epoch: 1, step: 0 }, async () => { throw new Error("no bytes"); })).rejects.toMatchObject({
      stage: "write", code: null, kept: null, message: expect.stringMatching(/no bytes\. No checkpoint was there before$/),
    });
  });

  test("does not guess where the folder cannot be read any more", async () => {
    await saveAll(epochs(1));
    // Read once, when it is opened.
    let reads = 0;
    const files: FileLayer = { ...diskFiles, list: (path) => (reads++ === 0 ? diskFiles : failing("EIO", "list")).list(path) };
    const run = await CheckpointFolder.open(folder, { files });
    await expect(run.save({ epoch: 2, step: 0 }, async () => { throw new Error("no"); })).rejects.toMatchObject({
      kept: null, message: expect.stringMatching(/What was there before is untouched$/),
    });
  });

  test("keeps the complete file and every other one when only the pointer cannot be moved", async () => {
    await saveAll(epochs(1, 2));
    const run = await CheckpointFolder.open(folder, { keep: 1, files: failing("EIO", "rename") });
    await expect(run.save({ epoch: 3, step: 0 }, async (path) => writeFileSync(path, "3"))).rejects.toMatchObject({
      stage: "point", code: "EIO", kept: join(folder, whole(3)), message: expect.stringMatching(/is saved, but last\.pth\.tar cannot/),
    });
    expect(names()).toEqual([whole(1), whole(2), whole(3), "last.pth.tar"]);
    expect(readlinkSync(last())).toBe(whole(2));
    expect(findCheckpoint(folder)).toBe(join(folder, whole(3)));
  });

  test("is one whose function made no file", async () => {
    const run = await CheckpointFolder.open(folder, { keep: 1 });
    await expect(run.save({ epoch: 1, step: 0 }, async () => undefined)).rejects.toThrow(/made no such file/);
    expect(names()).toEqual([]);
  });

  test("is none when only old checkpoints cannot be removed", async () => {
    await saveAll(epochs(1, 2));
    const run = await CheckpointFolder.open(folder, { keep: 1, files: failing("EACCES", "remove") });
    expect(await run.save({ epoch: 3, step: 0 }, async (path) => writeFileSync(path, "3"))).toMatchObject({
      removed: [], warning: expect.stringMatching(/checkpoint_0000\.pth\.tar \(EACCES.*checkpoint_0001\.pth\.tar \(EACCES/),
    });
    expect(readlinkSync(last())).toBe(whole(3));
  });
});

describe("temporary files", () => {
  const leave = (name: string, ageMs = 0): string => {
    writeFileSync(join(folder, name), "half");
    utimesSync(join(folder, name), new Date(), new Date(Date.now() - ageMs));
    return name;
  };
  /** The name that process `pid` of this machine, or another, would give. */
  const temporary = (target: string, pid: number, host?: string): string => {
    const own = temporaryPath(target);
    const { host: here } = temporaryOwner(own)!;
    return own.replace(`${here}-${process.pid}-`, `${host ?? here}-${pid}-`);
  };

  test("tell their writer by name", () => {
    expect(temporaryOwner(temporaryPath("runs/a.b/checkpoint_0000.pth.tar").slice("runs/a.b/".length))).toEqual({
      target: "checkpoint_0000.pth.tar", host: expect.stringMatching(/^[0-9a-f]{8}$/), pid: process.pid,
    });
    for (const name of ["checkpoint_0000.pth.tar", ".checkpoint_0000.pth.tar.swp", ".a.tmp", ".a.12-1a2b3c4d.tmp"]) {
      expect(temporaryOwner(name)).toBeNull();
    }
  });

  test("of processes that are gone are removed, those of living ones stay", async () => {
    const dead = spawnSync(process.execPath, ["--version"]).pid;
    const living = spawn(process.execPath, ["-e", "setTimeout(() => {}, 60000)"], { stdio: "ignore" });
    try {
      const gone = [temporary(whole(1), dead), temporary("last.pth.tar", dead), temporary(checkpointName({ epoch: 2, step: 5 }), dead)];
      gone.push(temporary(whole(2), process.pid).replace(/.{12}$/, "00000000.tmp")); // of our number, before we were started
      const stay = [temporary(whole(3), living.pid!), temporary(whole(4), process.pid), temporary(whole(5), dead, "00000000")];
      stay.push(temporary("notes.txt", dead), ".checkpoint_0000.pth.tar.swp");
      for (const name of [...gone, ...stay]) leave(name);
      leave(gone[3]!, 1000 * process.uptime() + 60_000);
      await CheckpointFolder.open(folder);
      expect(names()).toEqual(stay.sort());
    } finally {
      living.kill();
    }
  });

  test("that nobody has written to for long are removed, whoever made them", async () => {
    leave(temporary(whole(1), process.pid), ABANDONED_AFTER + 1000);
    leave(temporary(whole(2), 1, "00000000"), ABANDONED_AFTER + 1000);
    const young = leave(temporary(whole(3), 1, "00000000"), ABANDONED_AFTER - 60_000);
    const other = leave(temporary("notes.txt", 1, "00000000"), ABANDONED_AFTER + 1000);
    await CheckpointFolder.open(folder);
    expect(names()).toEqual([young, other].sort());
  });

  test("that cannot be removed do not keep a run from starting", async () => {
    const name = leave(temporary(whole(1), 1, "00000000"), ABANDONED_AFTER + 1000);
    await CheckpointFolder.open(folder, { files: failing("EACCES", "remove") });
    expect(names()).toEqual([name]);
  });
});

describe("finding the checkpoint that is meant", () => {
  test("the furthest one of a folder, also where the pointer has not got there", async () => {
    await saveAll(epochs(1, 2));
    expect(findCheckpoint(folder)).toBe(join(folder, whole(2)));
    writeFileSync(join(folder, whole(3)), "");
    expect(findCheckpoint(folder)).toBe(join(folder, whole(3)));
    expect(checkpointsIn(folder)).toEqual([whole(1), whole(2), whole(3)]);
  });

  test("the one that a pointer leads to, by its own name", async () => {
    await saveAll(epochs(1, 2));
    expect(findCheckpoint(last())).toBe(join(folder, whole(2)));
    rmSync(last());
    symlinkSync(join(folder, whole(1)), last());
    expect(findCheckpoint(last())).toBe(join(folder, whole(1)));
    rmSync(last());
    linkSync(join(folder, whole(1)), last());
    expect(findCheckpoint(last())).toBe(last());
  });

  test("the pointer's in a folder that has nothing else", () => {
    writeFileSync(last(), "a copy");
    expect(findCheckpoint(folder)).toBe(last());
    rmSync(last());
    const elsewhere = mkdtempSync(join(tmpdir(), "moco-folder-"));
    writeFileSync(join(elsewhere, "model.pth"), "");
    symlinkSync(join(elsewhere, "model.pth"), last());
    expect(findCheckpoint(folder)).toBe(join(elsewhere, "model.pth"));
    rmSync(elsewhere, { recursive: true });
    for (const path of [folder, last()]) {
      expect(() => findCheckpoint(path)).toThrow(CheckpointNotFoundError);
      expect(() => findCheckpoint(path)).toThrow(/last\.pth\.tar is a link to .*model\.pth, which is not there any more; give/);
    }
  });

  test("none where there is none", () => {
    expect(() => findCheckpoint(folder)).toThrow(/has no checkpoint_\*\.pth\.tar, no last\.pth\.tar and no checkpoint\.pth\.tar; give/);
    expect(() => findCheckpoint(join(folder, "nothing"))).toThrow(/there is no checkpoint .*nothing; give/);
  });

  test("a run keeps out of the folder of another", async () => {
    expect(() => requireFreshFolder(folder)).not.toThrow();
    expect(() => requireFreshFolder(join(folder, "new"))).not.toThrow();
    await saveAll(epochs(1));
    expect(existsSync(last())).toBe(true);
    expect(() => requireFreshFolder(folder)).toThrow(RunFolderError);
    expect(() => requireFreshFolder(folder, "elsewhere/checkpoint_0000.pth.tar")).toThrow(/already holds a run \(checkpoint_0000/);
    expect(() => requireFreshFolder(folder, join(folder, whole(1)))).not.toThrow();
    rmSync(join(folder, whole(1)));
    expect(() => requireFreshFolder(folder)).toThrow(/already holds a run \(last\.pth\.tar\)/);
  });
});
