import { chmodSync, existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import {
  DiskFullError, DownloadError, HashMismatchError, PipNotFoundError, PythonNotFoundError, UnsupportedPlatformError,
} from "../../lib/setup/errors.js";
import { fetchLibtorch } from "../../lib/setup/fetchLibtorch.js";
import { findLibtorch } from "../../lib/setup/findLibtorch.js";
import { wheelsFor } from "../../lib/setup/wheels.js";
import { configFor, type FakeIndex, fakeIndex, temporaryFolder, torchWheel, write } from "./fakeTorch.js";

let folder: string;
let cache: string;
beforeEach(() => {
  folder = temporaryFolder("fetch");
  cache = join(folder, "cache");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function fetchFrom({ python, wheels }: FakeIndex): Promise<unknown> {
  return fetchLibtorch(configFor(cache, { MOCO_PYTHON: python }), { wheels });
}

function leftovers(): string[] {
  const all = existsSync(cache) ? readdirSync(cache, { recursive: true }).map(String) : [];
  return all.filter((each) => /libtorch|unpacking|lock/.test(each));
}

test("fetches once, takes what the CPU needs, and leaves nothing else behind", async () => {
  const index = fakeIndex(folder, torchWheel("2.11.0+cu130"));
  await fetchFrom(index);
  await fetchFrom(index);
  expect(index.calls()).toHaveLength(1);
  const found = findLibtorch(configFor(cache));
  expect(found).toMatchObject({ version: "2.11.0", source: "cache", cuda: false });
  expect(readdirSync(found.libDir).map((each) => each.split(".")[0]).sort()).toEqual(["libc10", "libtorch_cpu"]);
  expect(existsSync(join(found.root, "nn"))).toBe(false);
  expect(readdirSync(cache)).toEqual(["libtorch-2.11.0-cpu"]);
  const manifest = JSON.parse(readFileSync(join(cache, "libtorch-2.11.0-cpu/moco.json"), "utf8"));
  expect(manifest).toEqual({ version: "2.11.0", cuda: false, archives: index.wheels.cpu.map(({ file, sha256 }) => ({ file, sha256 })) });
});

test("asks pip for the pinned wheel whatever Python it is, and leaves index and proxy to pip's own settings", async () => {
  const index = fakeIndex(folder, torchWheel("2.11.0"));
  await fetchFrom(index);
  const call = index.calls()[0]!.join(" ");
  expect(call).toContain("-m pip download --no-deps --only-binary=:all: --platform manylinux_2_28_x86_64");
  expect(call).toContain("--python-version 312 --implementation cp --abi cp312");
  expect(call).not.toMatch(/index-url|proxy|trusted-host|find-links|--cert|isolated/);
  expect(call).toContain(`TMPDIR=${cache}`);
});

test("another file than the pinned one is deleted, and nothing is installed", async () => {
  const index = fakeIndex(folder, torchWheel("2.11.0"), { wrongHash: true });
  await expect(fetchFrom(index)).rejects.toThrow(HashMismatchError);
  await expect(fetchFrom(index)).rejects.toThrow(/its SHA-256 is [0-9a-f]{64}, expected 0{64}/);
  expect(leftovers()).toEqual([]);
  expect(readdirSync(join(cache, "downloads"))).toEqual([]);
});

test.each([
  ["ERROR: Could not find a version that satisfies the requirement torch==2.11.0", DownloadError, /three|another way|moco setup --archive/],
  ["ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", HashMismatchError, /offers another torch 2\.11\.0/],
  ["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", DiskFullError, /MOCO_CACHE/],
])("pip says: %s", async (fails, kind, text) => {
  const error: unknown = await fetchFrom(fakeIndex(folder, torchWheel("2.11.0"), { fails })).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(kind);
  expect((error as Error).message).toMatch(text);
  expect(leftovers()).toEqual([]);
});

test("no Python, an old one, one without pip", async () => {
  const { wheels } = fakeIndex(folder, torchWheel("2.11.0"));
  const withPython = (python: string): Promise<unknown> => fetchFrom({ python, wheels, calls: () => [] });
  await expect(withPython(join(folder, "none"))).rejects.toThrow(PythonNotFoundError);
  await expect(withPython(join(folder, "none"))).rejects.toThrow(/none: not found[^]*MOCO_PYTHON[^]*--archive/);
  const fake = (name: string, says: string): string => write(join(folder, name), `#!${process.execPath}\nconsole.log("${says}")\n`);
  const old = fake("old", "3.8.10 1");
  const bare = fake("bare", "3.11.2 0");
  for (const each of [old, bare]) chmodSync(each, 0o755);
  await expect(withPython(old)).rejects.toThrow("is 3.8.10, older than 3.9");
  await expect(withPython(bare)).rejects.toThrow(PipNotFoundError);
});

test("a disk that is too small is told before anything is fetched", async () => {
  const index = fakeIndex(folder, torchWheel("2.11.0"));
  const wheels = { ...index.wheels, cpu: index.wheels.cpu.map((each) => ({ ...each, bytes: 1e18 })) };
  await expect(fetchFrom({ ...index, wheels })).rejects.toThrow(DiskFullError);
  await expect(fetchFrom({ ...index, wheels })).rejects.toThrow(/free, but .* GB are needed.*MOCO_CACHE/s);
  expect(index.calls()).toEqual([]);
});

test("an archive with a path that leads out installs nothing", async () => {
  const index = fakeIndex(folder, torchWheel("2.11.0", [{ path: "../evil", content: "x" }]));
  await expect(fetchFrom(index)).rejects.toThrow("not a sound zip archive");
  expect(leftovers()).toEqual([]);
});

test("every platform has its hashes, and one without says so", () => {
  for (const [platform, arch] of [["linux", "x64"], ["linux", "arm64"], ["darwin", "arm64"], ["win32", "x64"]] as const) {
    const { cpu, cuda, clangFormat } = wheelsFor(platform, arch);
    for (const each of [...cpu, ...cuda, clangFormat]) {
      expect(each.sha256).toMatch(/^[0-9a-f]{64}$/);
      expect(each.file.startsWith(`${each.project.replaceAll("-", "_")}-${each.version}-`)).toBe(true);
    }
    expect(cpu[0]).toMatchObject({ project: "torch", version: "2.11.0" });
  }
  expect(() => wheelsFor("aix", "ppc64")).toThrow(UnsupportedPlatformError);
});
