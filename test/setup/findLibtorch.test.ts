import { chmodSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "@jest/globals";
import { LibtorchNotFoundError } from "../../lib/setup/errors.js";
import { findLibtorch } from "../../lib/setup/findLibtorch.js";
import { configFor, fakeLibtorch, temporaryFolder, write } from "./fakeTorch.js";

const folder = temporaryFolder("find");
const cache = join(folder, "cache");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function message(environment: Record<string, string>): string {
  try {
    findLibtorch(configFor(cache, environment));
  } catch (error) {
    expect(error).toBeInstanceOf(LibtorchNotFoundError);
    return (error as Error).message;
  }
  throw new Error("it was found");
}

function cached(name: string, version: string, cuda = false): string {
  const root = fakeLibtorch(join(cache, name, "torch"), { wheel: version });
  write(join(cache, name, "moco.json"), JSON.stringify({ version, cuda, archives: [] }));
  return root;
}

test("LIBTORCH names a libtorch zip's folder", () => {
  const root = fakeLibtorch(join(folder, "libtorch"), { zip: "2.11.0+cpu" });
  const found = findLibtorch(configFor(cache, { LIBTORCH: root }));
  expect(found).toMatchObject({ root, version: "2.11.0", build: "2.11.0+cpu", source: "LIBTORCH", cuda: false, cudaPreload: [] });
  expect(found.libDir).toBe(join(root, "lib"));
  expect(found.includeDirs).toEqual([join(root, "include"), join(root, "include/torch/csrc/api/include")]);
  expect(found.preload.map((each) => each.split("/").pop()!.split(".")[0])).toEqual(["libc10", "libtorch_cpu"]);
});

test("LIBTORCH names Python's torch, or the folder above it; the NVIDIA libraries beside it are loaded first", () => {
  const root = fakeLibtorch(join(folder, "site/torch"), { wheel: "2.10.1+cu130" });
  const runtime = write(join(folder, "site/nvidia/cu13/lib/libcudart.so.13"));
  const profiler = write(join(folder, "site/nvidia/cu13/lib/libcupti.so.13"));
  write(join(folder, "site/nvidia/cu13/lib/libcublas.so.13"));
  for (const LIBTORCH of [root, join(folder, "site")]) {
    const found = findLibtorch(configFor(cache, { LIBTORCH }));
    expect(found).toMatchObject({ root, version: "2.10.1", build: "2.10.1+cu130" });
    expect(found.preload.slice(0, 2)).toEqual([runtime, profiler]);
    expect(found.preload).toHaveLength(4);
  }
});

test("a wrong LIBTORCH is refused, although the cache has one", () => {
  const root = cached("libtorch-2.11.0-cpu", "2.11.0");
  expect(findLibtorch(configFor(cache)).root).toBe(root);
  const nowhere = join(folder, "nowhere");
  expect(message({ LIBTORCH: nowhere })).toContain(`LIBTORCH=${nowhere}: ${nowhere} does not hold libtorch`);
  const headless = fakeLibtorch(join(folder, "headless"), { zip: "2.11.0" });
  rmSync(join(headless, "include"), { recursive: true });
  expect(message({ LIBTORCH: headless })).toContain("but not its headers");
  expect(message({ LIBTORCH: fakeLibtorch(join(folder, "ageless"), {}) })).toContain("does not tell its version");
  rmSync(cache, { recursive: true });
});

test("LIBTORCH_USE_PYTORCH asks Python where torch is, and does not import it", () => {
  const root = fakeLibtorch(join(folder, "python/torch"), { wheel: "2.11.0" });
  const says = (torch: string): string => `#!/bin/sh\ncase "$2" in *find_spec\\(\\'torch*) echo ${torch};; *) echo "3.12.1 1";; esac\n`;
  const python = write(join(folder, "bin/python"), says(root));
  chmodSync(python, 0o755);
  const environment = { LIBTORCH_USE_PYTORCH: "1", MOCO_PYTHON: python };
  expect(findLibtorch(configFor(cache, environment))).toMatchObject({ root, source: "python" });
  write(python, says(""));
  expect(message(environment)).toContain(`LIBTORCH_USE_PYTORCH=1: ${python} (Python 3.12.1) has no torch: ${python} -m pip install`);
  expect(message({ LIBTORCH_USE_PYTORCH: "1", MOCO_PYTHON: join(folder, "none") })).toContain("No Python ≥ 3.9 was found");
});

test("of the cache, our own version comes first, with CUDA where it is wanted; half a library does not count", () => {
  fakeLibtorch(join(cache, "libtorch-2.11.0-half", "torch"), { wheel: "2.11.0" });
  expect(message({})).toContain("no libtorch in");
  const newer = cached("libtorch-archive-1", "2.12.0");
  expect(findLibtorch(configFor(cache))).toMatchObject({ root: newer, source: "cache" });
  const cpu = cached("libtorch-2.11.0-cpu", "2.11.0");
  const cuda = cached("libtorch-2.11.0-cuda", "2.11.0", true);
  expect(findLibtorch(configFor(cache)).root).toBe(cpu);
  expect(findLibtorch(configFor(cache, { MOCO_CUDA: "1" })).root).toBe(cuda);
  rmSync(cache, { recursive: true });
});

test("when nothing is found, the error names every place and three ways out", () => {
  const text = message({});
  for (const part of ["LIBTORCH: not set", "LIBTORCH_USE_PYTORCH: not set", `cache: no libtorch in ${cache}`]) expect(text).toContain(part);
  for (const part of ["LIBTORCH=/path", "LIBTORCH_USE_PYTORCH=1", "moco setup --archive FILE"]) expect(text).toContain(part);
});
