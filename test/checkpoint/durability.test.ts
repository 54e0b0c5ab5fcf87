import { link, mkdtemp, readdir, readFile, rm, symlink, lstat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { diskFiles, writeDurably, type FileLayer, type WritableFile } from "../../lib/checkpoint/files/durableFile.js";

/** Files on disk whose operation number `failAt` (from 0) fails, `write` after half of its bytes. `log` lists the operations. */
function failingFiles(failAt: number, log: string[], error = new Error("injected")): FileLayer {
  const step = (name: string): boolean => log.push(name) - 1 === failAt;
  return {
    ...diskFiles,
    async create(path) {
      if (step("create")) throw error;
      const file = await diskFiles.create(path);
      return {
        async write(bytes) {
          if (!step("write")) return file.write(bytes);
          await file.write(bytes.subarray(0, bytes.length >> 1));
          throw error;
        },
        async sync() {
          if (step("sync")) throw error;
          await file.sync();
        },
        async close() {
          const failing = step("close");
          await file.close();
          if (failing) throw error;
        },
      };
    },
    async rename(from, to) {
      if (step("rename")) throw error;
      await diskFiles.rename(from, to);
    },
    async remove(path) {
      if (step("remove")) throw error;
      await diskFiles.remove(path);
    },
    async syncFolder(path) {
      if (step("syncFolder")) throw error;
      await diskFiles.syncFolder(path);
    },
  };
}

const newContent = async (sink: { write(bytes: Uint8Array): Promise<void> }): Promise<void> => {
  await sink.write(Buffer.from("new "));
  await sink.write(Buffer.from("content"));
};

describe("a file written durably", () => {
  let folder: string;
  let path: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "moco-durable-"));
    path = join(folder, "last.pth.tar");
    await writeFile(path, "old");
  });
  afterEach(() => rm(folder, { recursive: true }));

  test("takes its steps in the order that survives a power cut", async () => {
    const log: string[] = [];
    await writeDurably(path, newContent, failingFiles(-1, log));
    expect(log).toEqual(["create", "write", "write", "sync", "close", "rename", "syncFolder"]);
    expect(await readFile(path, "utf8")).toBe("new content");
    expect(await readdir(folder)).toEqual(["last.pth.tar"]);
  });

  // create, write, write, sync, close, rename
  test.each([0, 1, 2, 3, 4, 5])("keeps the old content when step %i fails, and leaves nothing behind", async (failAt) => {
    await expect(writeDurably(path, newContent, failingFiles(failAt, []))).rejects.toThrow("injected");
    expect(await readFile(path, "utf8")).toBe("old");
    expect(await readdir(folder)).toEqual(["last.pth.tar"]);
  });

  test("is complete even when the folder's sync fails", async () => {
    await expect(writeDurably(path, newContent, failingFiles(6, []))).rejects.toThrow("injected");
    expect(await readFile(path, "utf8")).toBe("new content");
    expect(await readdir(folder)).toEqual(["last.pth.tar"]);
  });

  test("keeps the old content when the content cannot be made", async () => {
    const failing = async (): Promise<void> => { throw new Error("no content"); };
    await expect(writeDurably(path, failing)).rejects.toThrow("no content");
    expect(await readFile(path, "utf8")).toBe("old");
    expect(await readdir(folder)).toEqual(["last.pth.tar"]);
  });

  test("never changes the old file in place", async () => {
    const second = join(folder, "second name");
    await link(path, second);
    await writeDurably(path, newContent);
    expect(await readFile(second, "utf8")).toBe("old");
  });

  test("follows a symbolic link", async () => {
    const pointer = join(folder, "pointer");
    await symlink("last.pth.tar", pointer);
    await writeDurably(pointer, newContent);
    expect((await lstat(pointer)).isSymbolicLink()).toBe(true);
    expect(await readFile(path, "utf8")).toBe("new content");
  });

  /** Files on disk that are written through `write`. */
  const writing = (write: (file: WritableFile, bytes: Uint8Array) => Promise<number>): FileLayer => ({
    ...diskFiles,
    async create(at) {
      const file = await diskFiles.create(at);
      return { write: (bytes) => write(file, bytes), sync: () => file.sync(), close: () => file.close() };
    },
  });

  test("writes on where the system takes only some of the bytes", async () => {
    await writeDurably(path, newContent, writing((file, bytes) => file.write(bytes.subarray(0, 3))));
    expect(await readFile(path, "utf8")).toBe("new content");
  });

  test("does not wait for ever where the system takes none of the bytes", async () => {
    await expect(writeDurably(path, newContent, writing(async () => 0))).rejects.toThrow(/takes no more bytes/);
    expect(await readFile(path, "utf8")).toBe("old");
    expect(await readdir(folder)).toEqual(["last.pth.tar"]);
  });

  test("survives two writers at once: one of the contents, whole", async () => {
    const writers = Array.from({ length: 8 }, (_, i) => writeDurably(path, async (sink) => {
      for (let part = 0; part < 20; part++) await sink.write(Buffer.from(String(i).repeat(100)));
    }));
    await Promise.all(writers);
    const content = await readFile(path, "utf8");
    expect(content).toBe((content[0] as string).repeat(2000));
    expect(await readdir(folder)).toEqual(["last.pth.tar"]);
  });
});

test("a checkpoint that cannot be written names the file, the cause and the way out", async () => {
  const { writeCheckpoint } = await import("../../lib/checkpoint/index.js");
  const folder = await mkdtemp(join(tmpdir(), "moco-durable-"));
  const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
  const path = join(folder, "c.pth");
  await expect(writeCheckpoint(path, { a: 1 }, { files: failingFiles(3, [], full) })).rejects.toMatchObject({
    name: "CheckpointError", file: path, reason: expect.stringMatching(/no space left.*Free some space/s), cause: full,
  });
  await expect(writeCheckpoint(join(folder, "none", "c.pth"), { a: 1 })).rejects.toMatchObject({
    reason: expect.stringMatching(/Create the folder/),
  });
  expect(await readdir(folder)).toEqual([]);
  await rm(folder, { recursive: true });
});
