/** The GPU benchmark from end to end with tiny networks on the CPU: the same programs, requests and files as on a GPU. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { benchmarkChart } from "../../scripts/bench/chart.js";
import { benchmarkStepGpu, type Trial } from "../../scripts/bench/stepGpu.js";
import type { Side } from "../../scripts/bench/stepGpuProtocol.js";
import { benchmarkTable } from "../../scripts/bench/table.js";
import { testPython, testUpstream } from "../support/python.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

const root = temporaryFolder("bench");
const trial: Trial = { device: "cpu", extent: { tiny_vit: [4, 256], tiny_resnet: [4] }, imageSize: 32, mlp: 32, secondsAtOnce: 0.01 };
const withPython = testPython === null ? test.skip : test;

withPython("each side gives its figures, and what is measured is not measured again", async () => {
  const options = { python: testPython!, upstream: testUpstream ?? undefined, threads: 1, rounds: 2, quick: false, compile: false, dir: root, only: "tiny_vit:256,tiny_resnet" };
  const first = await benchmarkStepGpu(options, trial);
  const upstream: Side[] = testUpstream === null ? [] : ["upstream"];
  const sidesOf = (figure: string): string[] => Object.keys(first.raw[figure] as object).sort();
  const usual: string[] = ["ours", "oursGraph", "tuned", ...upstream, "matrixProductTflops"];
  expect(sidesOf("tiny_vit_256")).toEqual([...usual, "oursOtherPrecision", "oursDeterministic", "profile"].sort());
  expect(sidesOf("tiny_resnet_4")).toEqual([...usual, "oursNchw", "tunedNchw"].sort());
  expect((first.raw.tiny_vit_256 as { matrixProductTflops: number }).matrixProductTflops).toBe(first.machine.matrixProductTflops);
  expect(first.ratios.tiny_vit_256GraphOverEager).toBeGreaterThan(0);
  expect(first.ratios.tiny_resnet_4ChannelsLastOverNchw).toBeGreaterThan(0);
  const { profile } = first.raw.tiny_vit_256 as { profile: { ours: object } };
  expect(Object.keys(profile.ours)).toEqual(expect.arrayContaining(["forward", "queries", "keys", "momentum update", "optimizer", "look"]));
  expect(JSON.parse(readFileSync(join(root, "no-gpu", "step-gpu.json"), "utf8"))).toEqual(first); // as it stood after the last row
  expect(benchmarkTable(first)).toMatch(/\| tiny_vit \| 256 \| [\d,.]+ \|/);
  expect(await benchmarkChart(first)).toContain("tiny_resnet, batch 4, ours, channels first");

  const again = await benchmarkStepGpu({ ...options, only: "tiny_vit:256" }, trial);
  expect(again.raw).toEqual(first.raw); // from the files, the other rows too
}, 300_000);

withPython("a program that lacks something ends it before anything is measured", async () => {
  const options = { python: testPython!, upstream: root, threads: 1, rounds: 1, quick: false, compile: false, dir: join(root, "none"), only: "tiny_vit:4", sides: "ours,upstream" };
  await expect(benchmarkStepGpu(options, trial)).rejects.toThrow(/cannot begin\.\n {2}upstream: ModuleNotFoundError: No module named 'moco'\n.*--sides ours$/);
}, 120_000);

withPython("an unknown network, batch or side is refused before anything is measured", async () => {
  const options = { python: testPython!, threads: 1, rounds: 1, quick: false, dir: root };
  await expect(benchmarkStepGpu({ ...options, only: "vit_huge" }, trial)).rejects.toThrow(/no vit_huge here; give some of tiny_vit, tiny_resnet/);
  await expect(benchmarkStepGpu({ ...options, sides: "ours,tune" }, trial)).rejects.toThrow(/no side "tune"; give some of ours, upstream, tuned/);
  await expect(benchmarkStepGpu({ ...options, only: "tiny_vit:x" }, trial)).rejects.toThrow(/"x" is no batch size/);
});
