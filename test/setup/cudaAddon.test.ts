/** The CUDA addon: where its headers are looked for, and that it compiles against NVIDIA's packages on a machine without CUDA. */
import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "@jest/globals";
import { readConfig } from "../../lib/config.js";
import { findCudaHeaders } from "../../lib/setup/cudaHeaders.js";
import { checkCudaAddon, checkKernelCompiler } from "../../lib/setup/diagnose.js";
import { findLibtorch } from "../../lib/setup/findLibtorch.js";
import { packageRoot } from "../../lib/setup/packageRoot.js";
import { inspectTorchFolder } from "../../lib/setup/torchFolder.js";
import { headerWheels, wheelsFor } from "../../lib/setup/wheels.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { configFor, fakeLibtorch, write } from "./fakeTorch.js";

const root = temporaryFolder("cuda-addon");
let counter = 0;

/** A libtorch for CUDA 13 in a folder of its own, with these headers around it. */
function machine(files: Record<string, string>): { find: (places?: string[]) => ReturnType<typeof findCudaHeaders>; folder: string } {
  const folder = join(root, String(counter++));
  const libtorch = inspectTorchFolder(fakeLibtorch(join(folder, "site", "torch"), { wheel: "2.11.0+cu130" }), "python");
  for (const [path, text] of Object.entries(files)) write(join(folder, path), text);
  const config = configFor(join(folder, "cache"));
  return { folder, find: (places = []) => findCudaHeaders(config, libtorch, places.map((each) => join(folder, each))) };
}

const runtime = (version: number): string => `#define CUDART_VERSION  ${version}\n`;
const packages = (place: string): Record<string, string> => ({
  [`${place}/nvidia/cu13/include/cuda_runtime_api.h`]: runtime(13000), [`${place}/nvidia/cu13/include/crt/host_defines.h`]: "",
  [`${place}/nvidia/cu13/include/nv/target`]: "", [`${place}/nvidia/nccl/include/nccl.h`]: "",
});

describe("CUDA's headers are found", () => {
  test.each(["site", "cache/cuda-headers"])("in NVIDIA's packages: %s", (place) => {
    const { find, folder } = machine(packages(place));
    expect(find()).toEqual({ includeDirs: [join(folder, place, "nvidia/cu13/include"), join(folder, place, "nvidia/nccl/include")] });
  });

  test("in a toolkit, with NCCL from the system", () => {
    const { find, folder } = machine({
      "cuda/include/cuda_runtime_api.h": runtime(13020), "cuda/include/crt/host_defines.h": "", "cuda/include/cccl/nv/target": "", "usr/include/nccl.h": "",
    });
    const places = ["cuda/include", "cuda/include/cccl", "usr/include"];
    expect(find(places)).toEqual({ includeDirs: places.map((each) => join(folder, each)) });
  });
});

test("what is missing is named, and headers of another CUDA are refused", () => {
  const { "site/nvidia/nccl/include/nccl.h": _, ...withoutNccl } = packages("site");
  expect(machine(withoutNccl).find()).toEqual({ lacking: expect.stringMatching(/^nccl\.h not found beside libtorch, in .*cuda-headers/) });
  const old = machine({ ...packages("site"), "site/nvidia/cu13/include/cuda_runtime_api.h": runtime(12080) });
  expect(old.find()).toEqual({ lacking: expect.stringMatching(/are of CUDA 12, and libtorch 2\.11\.0\+cu130 is for CUDA 13/) });
});

test("doctor tells of it", () => {
  const libtorch = inspectTorchFolder(fakeLibtorch(join(root, "doctor", "torch"), { wheel: "2.11.0+cu130" }), "python");
  const check = checkCudaAddon(configFor(join(root, "doctor", "cache")), libtorch, { failure: "undefined symbol" });
  expect(check).toMatchObject({ name: "cuda addon", status: "optional", fix: expect.stringContaining("npx moco setup --") });
  expect(check.found).toMatch(/^without CUDA graphs and NCCL: (undefined symbol|not built)/);
  const compiler = (): string => checkKernelCompiler(configFor(join(root, "doctor", "cache")), libtorch).found;
  expect(compiler()).toMatch(/^NVRTC was not found|^\/usr\/local\/cuda/);
  write(join(root, "doctor", "nvidia", "cu13", "lib", "libnvrtc.so.13"), "");
  expect(compiler()).toBe(join(root, "doctor", "nvidia", "cu13", "lib", "libnvrtc.so.13"));
});

test("the packages that bring the headers are pinned for both kinds of Linux", () => {
  for (const arch of ["x64", "arm64"]) {
    expect(headerWheels(wheelsFor("linux", arch)).map(({ project }) => project).sort())
      .toEqual(["nvidia-cuda-cccl", "nvidia-cuda-crt", "nvidia-cuda-runtime", "nvidia-nccl-cu13"]);
  }
});

// The real thing, where `npm run cuda-headers` has brought them.
const libtorch = findLibtorch();
const headers = findCudaHeaders(readConfig(), libtorch);
const withHeaders = "includeDirs" in headers ? test : test.skip;

withHeaders("each of its sources compiles against NVIDIA's headers", async () => {
  if (!("includeDirs" in headers)) throw new Error("unreachable");
  const modules = join(packageRoot, "node_modules");
  const sources = readdirSync(join(packageRoot, "native", "cuda")).filter((each) => each.endsWith(".cc"));
  expect(sources.length).toBeGreaterThan(0);
  const options = [
    "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-DNAPI_VERSION=8", "-DNODE_ADDON_API_CPP_EXCEPTIONS",
    `-I${join(modules, "node-api-headers", "include")}`, `-I${join(modules, "node-addon-api")}`,
    ...[...libtorch.includeDirs, ...headers.includeDirs].flatMap((each) => ["-isystem", each]),
    "-idirafter", join(packageRoot, "native", "cuda", "library-stubs"),
  ];
  // Rejects with the compiler's words.
  await Promise.all(sources.map((source) => promisify(execFile)("c++", [...options, join(packageRoot, "native", "cuda", source)])));
}, 240_000);
