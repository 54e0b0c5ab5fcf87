/** Which binary serves: one that npm has installed for this platform and this libtorch, and what is said where there is none. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { ADDON_FILES, binaryPackage, CUDA_ADDON, findPrebuilt, findPrebuiltCuda, whyNoPrebuilt } from "../../lib/setup/prebuilt.js";
import { isCpuFile } from "../../lib/setup/fetchLibtorch.js";
import { libraryFile } from "../../lib/setup/torchFolder.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

const root = temporaryFolder("prebuilt");
const packageFolder = join(root, "linux-x64");
for (const version of ["2.11.0", "2.15.0"]) {
  const folder = join(packageFolder, `libtorch-${version}`);
  mkdirSync(folder, { recursive: true });
  for (const file of [...ADDON_FILES, CUDA_ADDON]) writeFileSync(join(folder, file), "");
}
const installed = (): string => packageFolder;
const absent = (): null => null;

test("packages are named by npm's words for platforms", () => {
  expect(binaryPackage({ platform: "linux", arch: "x64" })).toBe("@moco-v3/linux-x64");
  expect(binaryPackage({ platform: "linux", arch: "x64", cuda: true })).toBe("@moco-v3/linux-x64-cuda");
  expect(binaryPackage({ platform: "darwin", arch: "arm64" })).toBe("@moco-v3/darwin-arm64");
});

test("binaries are chosen by libtorch's version", () => {
  expect(findPrebuilt({ version: "2.11.0" }, installed)).toBe(join(packageFolder, "libtorch-2.11.0"));
  expect(findPrebuilt({ version: "2.15.0" }, installed)).toBe(join(packageFolder, "libtorch-2.15.0"));
  expect(findPrebuilt({ version: "2.12.0" }, installed)).toBeNull();
  expect(findPrebuiltCuda({ version: "2.15.0" }, installed)).toBe(join(packageFolder, "libtorch-2.15.0", CUDA_ADDON));
  expect(findPrebuiltCuda({ version: "2.11.0" }, absent)).toBeNull();
});

test("where none fits, the reason is said", () => {
  expect(whyNoPrebuilt({ version: "2.12.0" }, installed)).toBe("@moco-v3/linux-x64 has binaries for libtorch 2.11.0, 2.15.0, not 2.12.0");
  expect(whyNoPrebuilt({ version: "2.11.0" }, absent)).toMatch(/@moco-v3\/linux-x64, is not installed/);
});

test.each([
  ["linux", "libtorch_cpu.so"], ["darwin", "libtorch_cpu.dylib"], ["win32", "torch_cpu.dll"],
])("libtorch's file names on %s", (platform, file) => {
  expect(libraryFile("torch_cpu", platform)).toBe(file);
  expect(isCpuFile(`torch/lib/${file}`)).toBe(true);
  expect(isCpuFile(`torch/lib/${libraryFile("torch_python", platform)}`)).toBe(false);
});

test("Windows' linker gets its import libraries", () => {
  expect(["c10.lib", "torch_cpu.lib", "uv.dll", "libiomp5md.dll"].map((file) => isCpuFile(`torch/lib/${file}`))).toEqual([true, true, true, true]);
});
