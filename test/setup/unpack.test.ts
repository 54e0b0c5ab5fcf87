import { existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test } from "@jest/globals";
import { ArchiveError } from "../../lib/setup/errors.js";
import { unpack } from "../../lib/setup/unpack.js";
import { temporaryFolder, write } from "./fakeTorch.js";
import { writeZip, type ZipMember } from "./zipFile.js";

const folder = temporaryFolder("unpack");
const archive = join(folder, "some.whl");
const target = join(folder, "target");
beforeEach(() => rmSync(target, { recursive: true, force: true }));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function refusal(members: readonly ZipMember[]): Promise<string> {
  writeZip(archive, members);
  const error = await unpack(archive, target).then(() => null, (reason: unknown) => reason);
  expect(error).toBeInstanceOf(ArchiveError);
  return (error as Error).message;
}

test("unpacks what is wanted, with its mode", async () => {
  writeZip(archive, [
    { path: "bin/tool", content: "run me", mode: 0o100755 },
    { path: "data/deep/file.txt", content: "x".repeat(100_000) },
    { path: "empty", content: "" },
    { path: "unwanted.py", content: "no" },
  ]);
  let bytes = 0;
  await unpack(archive, target, { wanted: (path) => !path.endsWith(".py"), onBytes: (count) => (bytes += count) });
  expect(readdirSync(target).sort()).toEqual(["bin", "data", "empty"]);
  expect(statSync(join(target, "bin/tool")).mode & 0o777).toBe(0o755);
  expect(statSync(join(target, "data/deep/file.txt")).mode & 0o111).toBe(0);
  expect(readFileSync(join(target, "data/deep/file.txt"), "utf8")).toHaveLength(100_000);
  expect(bytes).toBe(100_006);
});

const outside = ["../out.txt", "a/../../out.txt", "/tmp/moco-out.txt", "a\\..\\..\\out.txt", "C:/out.txt"];
test.each(outside)("a path that leads out: %s", async (path) => {
  await refusal([{ path: "first.txt", content: "1" }, { path, content: "evil" }]);
  // Refused before anything is written.
  expect(existsSync(target)).toBe(false);
  expect(existsSync(join(folder, "out.txt"))).toBe(false);
});

test("a symbolic link, and a path that comes twice", async () => {
  expect(await refusal([{ path: "lib", content: "/etc", mode: 0o120777 }])).toContain("symbolic link (lib)");
  expect(await refusal([{ path: "a.txt", content: "1" }, { path: "a.txt", content: "2" }])).toContain("a.txt twice");
});

test("damage: wrong checksum, cut off, not a zip, not there", async () => {
  expect(await refusal([{ path: "a.txt", content: "hello", wrongCrc: true }])).toContain("a.txt has the wrong checksum");
  writeZip(archive, [{ path: "a.txt", content: "hello".repeat(1000) }]);
  truncateSync(archive, statSync(archive).size - 40);
  await expect(unpack(archive, target)).rejects.toThrow("some.whl is not a sound zip archive");
  write(archive, "<html>404</html>");
  await expect(unpack(archive, target)).rejects.toThrow(ArchiveError);
  await expect(unpack(join(folder, "none.zip"), target)).rejects.toThrow(`There is no file ${join(folder, "none.zip")}`);
});
