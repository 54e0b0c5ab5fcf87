import { existsSync, readdirSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { ArchiveError, HashMismatchError } from "../../lib/setup/errors.js";
import { findLibtorch } from "../../lib/setup/findLibtorch.js";
import { installArchive } from "../../lib/setup/installArchive.js";
import { libraryFile } from "../../lib/setup/torchFolder.js";
import { configFor, temporaryFolder, torchWheel } from "./fakeTorch.js";
import { writeZip } from "./zipFile.js";

let folder: string;
let cache: string;
beforeEach(() => {
  folder = temporaryFolder("archive");
  cache = join(folder, "cache");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const config = (): ReturnType<typeof configFor> => configFor(cache, { MOCO_PYTHON: "/no/python" });

function libtorchZip(version: string): string {
  const members = torchWheel(version).filter(({ path }) => !path.endsWith(".py"));
  const moved = members.map((each) => ({ ...each, path: each.path.replace(/^torch/, "libtorch") }));
  return writeZip(join(folder, `libtorch-${version}.zip`), [...moved, { path: "libtorch/build-version", content: `${version}\n` }]);
}

test("a libtorch zip is installed whole, without Python", async () => {
  const installed = await installArchive(config(), [libtorchZip("2.11.0+cpu")]);
  expect(installed).toMatchObject({ version: "2.11.0", build: "2.11.0+cpu", source: "cache" });
  expect(findLibtorch(config()).root).toBe(installed.root);
  expect(readdirSync(cache)).toHaveLength(1);
});

test("a wheel with CUDA needs NVIDIA's wheels beside it", async () => {
  const torch = writeZip(join(folder, "torch.whl"), torchWheel("2.11.0+cu130"));
  await expect(installArchive(config(), [torch])).rejects.toThrow(/torch wheel with CUDA loads.*--archive nvidia_cuda_runtime/s);
  expect(existsSync(cache)).toBe(false); // told before anything is unpacked
  const nvidia = writeZip(join(folder, "nvidia.whl"), [
    { path: "nvidia/cu13/lib/libcudart.so.13", content: "runtime" },
    { path: "nvidia/cu13/lib/libcupti.so.13", content: "profiler" },
    { path: "nvidia/cu13/include/cuda.h", content: "" },
  ]);
  const installed = await installArchive(config(), [torch, nvidia]);
  const names = installed.preload.map((each) => basename(each).split(".")[0]);
  expect(names).toEqual(["libcudart", "libcupti", "libc10", "libtorch_cpu"]);
  // Without cuBLAS and the others torch's CUDA library would not load.
  expect(installed.cuda).toBe(false);
});

test("a file that bears a pinned name must be that file", async () => {
  const runtime = { path: "nvidia/cu13/lib/libcudart.so.13", content: "runtime" };
  const wheel = writeZip(join(folder, "torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl"), torchWheel("2.11.0", [runtime]));
  await expect(installArchive(config(), [wheel])).rejects.toThrow(HashMismatchError);
});

test("an archive without libtorch is refused", async () => {
  const other = writeZip(join(folder, "numpy.whl"), [{ path: "numpy/version.py", content: "" }]);
  await expect(installArchive(config(), [other])).rejects.toThrow(ArchiveError);
  await expect(installArchive(config(), [other])).rejects.toThrow(`no libtorch for ${process.platform} inside`);
});

test("an archive for another platform is refused before it is unpacked", async () => {
  const windows = writeZip(join(folder, "torch.whl"), [{ path: "torch/lib/torch_cpu.dll", content: "cpu" }, { path: "torch/version.py", content: "" }]);
  await expect(installArchive(config(), [windows])).rejects.toThrow(new RegExp(`no lib/${libraryFile("torch_cpu")}`));
  expect(existsSync(cache)).toBe(false);
});
