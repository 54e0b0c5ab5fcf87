/** Kernels are really compiled here, with NVRTC where `npm run cuda-headers` has brought it; they run in test/gpu. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { inspectTorchFolder } from "../../lib/setup/torchFolder.js";
import { findNvrtc } from "../../lib/setup/findNvrtc.js";
import * as torch from "../../lib/torch/index.js";
import { compileForArchitecture, findKernelCompiler } from "../../lib/torch/kernelCompiler.js";
import { configFor, fakeLibtorch, write } from "../setup/fakeTorch.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { addition } from "./vectorAddition.js";

expectNoTensorsLeft();

const root = temporaryFolder("kernels");
const compiler = findKernelCompiler();
const withCompiler = compiler === null ? describe.skip : describe;

withCompiler("a kernel", () => {
  let counter = 0;
  const cache = (): string => join(root, String(counter++));

  test("is compiled for each architecture, and kept", () => {
    const folder = cache();
    const [first, again, other] = [90, 90, 80].map((each) => compileForArchitecture(addition, each, compiler!, folder));
    expect(Buffer.from(first!.image).subarray(1, 4).toString()).toBe("ELF");
    expect([first!.cached, again!.cached, other!.cached]).toEqual([false, true, false]);
    expect(Buffer.from(again!.image).equals(Buffer.from(first!.image))).toBe(true);
    expect(Buffer.from(other!.image).equals(Buffer.from(first!.image))).toBe(false);
    expect(readdirSync(join(folder, "kernels")).sort()).toEqual([expect.stringMatching(/^add-sm80-\w{32}\.cubin$/), expect.stringMatching(/^add-sm90-/)]);
    expect(compileForArchitecture({ ...addition, options: ["-DSCALE=2"] }, 90, compiler!, folder).cached).toBe(false);
  });

  test("that is damaged on disk is compiled anew", () => {
    const folder = cache();
    const { file, image } = compileForArchitecture(addition, 90, compiler!, folder);
    const bytes = readFileSync(file);
    for (const damaged of [bytes.subarray(0, 100), bytes.subarray(0, 10), Buffer.alloc(0), Buffer.concat([bytes, Buffer.from("x")])]) {
      writeFileSync(file, damaged);
      const mended = compileForArchitecture(addition, 90, compiler!, folder);
      expect(mended.cached).toBe(false);
      expect(Buffer.from(mended.image).equals(Buffer.from(image))).toBe(true);
    }
  });

  test("needs no folder that can be written", () => {
    writeFileSync(join(root, "file"), "");
    expect(compileForArchitecture(addition, 90, compiler!, join(root, "file")).image.byteLength).toBeGreaterThan(0);
  });

  test("with an error in it: the compiler's words, with the line", () => {
    const wrong = { name: "wrong", source: 'extern "C" __global__ void wrong(float* x) {\n  x[0] = nowhere;\n}' };
    const compile = (): unknown => compileForArchitecture(wrong, 90, compiler!, cache());
    expect(compile).toThrow(torch.KernelError);
    expect(compile).toThrow(/kernel wrong does not compile for compute capability 9:\nwrong\.cu\(2\): error: identifier "nowhere" is undefined/);
  });

  test("for a GPU that the compiler does not know", () => {
    expect(() => compileForArchitecture(addition, 37, compiler!, cache())).toThrow(/knows no compute capability 3\.7, only 7\.5, 8,/);
  });

  const withHeaders = (compiler?.includeDirs.length ?? 0) > 0 ? test : test.skip;
  withHeaders("may include CUDA's headers", () => {
    const source = '#include <cuda_bf16.h>\nextern "C" __global__ void halve(__nv_bfloat16* x) { x[threadIdx.x] = __float2bfloat16(0.5f * __bfloat162float(x[threadIdx.x])); }';
    expect(compileForArchitecture({ name: "halve", source }, 90, compiler!, cache()).cached).toBe(false);
  });
});

test("the compiler is looked for beside libtorch, then in the cache, then in a toolkit", () => {
  const site = join(root, "site");
  const libtorch = inspectTorchFolder(fakeLibtorch(join(site, "torch"), { wheel: "2.11.0+cu130" }), "python");
  const config = configFor(join(root, "cache"));
  const find = (): string | null => findNvrtc(config, libtorch, [join(root, "toolkit")]);
  expect(find()).toBeNull();
  for (const place of ["toolkit", "cache/nvrtc/nvidia/cu13/lib", "site/nvidia/cu13/lib"]) {
    write(join(root, place, "libnvrtc.so.13"), "");
    write(join(root, place, "libnvrtc-builtins.so.13.0"), "");
    expect(find()).toBe(join(root, place, "libnvrtc.so.13"));
  }
});

describe("a kernel without a GPU", () => {
  const withoutGpu = torch.cudaDeviceCount() === 0 ? test : test.skip;
  withoutGpu("without a GPU there is no kernel and no device to tell of", () => {
    expect(() => torch.compileKernel({ ...addition, device: "cuda:0" })).toThrow(torch.DeviceUnavailableError);
    expect(() => torch.deviceProperties("cuda")).toThrow(torch.DeviceUnavailableError);
    expect(() => torch.deviceProperties("cpu")).toThrow(TypeError);
  });
});
