import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { testPython } from "../support/python.js";
import { startMoco } from "./moco.js";

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "moco-bench-test-"));
});
afterAll(() => rm(folder, { recursive: true }));

test("an unknown benchmark is wrong usage, and the known ones are listed", async () => {
  const { code, stderr } = await startMoco(["bench", "checkpiont"]);
  expect(code).toBe(2);
  expect(stderr).toMatch(/there is no benchmark "checkpiont"; choose one of checkpoint, data, .*step/);
});

test("data refuses an upstream that is none", async () => {
  const { code, stderr } = await startMoco(["bench", "data", "--upstream", folder]);
  expect(code).toBe(1);
  expect(stderr).toContain(`data: ${folder} has no moco/loader.py; give a checkout of facebookresearch/moco-v3 to --upstream, or none`);
});

(testPython === null ? test.skip : test)("data compares with torchvision, and leaves no file", async () => {
  const words = ["bench", "data", "--quick", "--rounds", "1", "--python", testPython!, "--dir", folder, "--json"];
  const { code, stdout, stderr } = await startMoco(words);
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  const { name, ratios, meanings } = JSON.parse(stdout) as {
    name: string; ratios: Record<string, number>; meanings: Record<string, string>;
  };
  expect(name).toBe("data");
  expect(Object.keys(ratios)).toEqual([
    "oneCoreImagesPerSecond", "oneCoreImagesPerCpuSecond", "gpuAugmentImagesPerCpuSecond", "allCoresImagesPerSecond",
    "allCoresImagesPerCpuSecond", "scaling", "scalingPython", "decodeTime", "cropTime", "colourTime", "blurTime", "normaliseTime",
    "peakMemory", "memoryGrowth", "memoryGrowthPython", "resnet18DataWait",
  ]);
  expect(Object.keys(meanings)).toEqual(Object.keys(ratios));
  for (const ratio of Object.values(ratios)) expect(ratio).toBeGreaterThan(0);
  // Crops are a part of the work, and its slowest part is not in them.
  expect(ratios.gpuAugmentImagesPerCpuSecond).toBeGreaterThan(ratios.oneCoreImagesPerCpuSecond!);
  expect(await readdir(folder)).toEqual([]);
}, 300_000);

(testPython === null ? test.skip : test)("checkpoint compares with torch.load and torch.save, and leaves no file", async () => {
  const words = ["bench", "checkpoint", "--quick", "--rounds", "1", "--python", testPython!, "--dir", folder, "--json"];
  const { code, stdout, stderr } = await startMoco(words);
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  const { name, ratios, meanings } = JSON.parse(stdout) as {
    name: string; ratios: Record<string, number>; meanings: Record<string, string>;
  };
  expect(name).toBe("checkpoint");
  expect(Object.keys(ratios)).toEqual([
    "loadTime", "loadExtraMemory", "loadExtraMemoryTorch", "saveTime", "savePlainTime", "saveTimeOverPlain", "saveStall", "saveStallFirst",
  ]);
  expect(Object.keys(meanings)).toEqual(Object.keys(ratios));
  for (const ratio of Object.values(ratios)) expect(ratio).toBeGreaterThan(0);
  // Read straight into the tensors' storage: no second copy, of whatever size.
  expect(ratios.loadExtraMemory).toBeLessThan(1.25);
  expect(await readdir(folder)).toEqual([]);
}, 300_000);

test("chart draws the recorded results of a folder anew, as a page and a picture each", async () => {
  const results = join(folder, "benchmarks", "results");
  await mkdir(results, { recursive: true });
  const ops = {
    name: "ops", date: "2026-01-02", machine: { cpu: "A", cores: 4, memoryGiB: 8, system: "linux", capability: "AVX2" },
    versions: { node: "20", libtorch: "2.11.0" }, settings: {}, ratios: { add: 0.5, geometricMean: 0.5 }, raw: { ours: [{ add: 1 }], python: [{ add: 2 }] },
  };
  await writeFile(join(results, "ops.json"), JSON.stringify(ops));
  const { code, stdout } = await startMoco(["bench", "chart"], { cwd: folder });
  expect({ code, stdout }).toEqual({ code: 0, stdout: "written to benchmarks/results/ops.md\nwritten to benchmarks/results/ops.svg\n" });
  expect(await readFile(join(results, "ops.md"), "utf8")).toContain("| add | 1.00 | 2.00 | 0.50 |");
  expect(await readFile(join(results, "ops.svg"), "utf8")).toMatch(/^<svg role="img"/);
  await rm(join(folder, "benchmarks"), { recursive: true });
});
