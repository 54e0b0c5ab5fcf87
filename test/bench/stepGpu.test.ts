/** The GPU benchmark from end to end with tiny networks on the CPU: the same programs, requests and files as on a GPU. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { benchmarkStepGpu, type Trial } from "../../scripts/bench/stepGpu.js";
import type { Side } from "../../scripts/bench/stepGpuProtocol.js";
import { testPython, testUpstream } from "../support/python.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

const root = temporaryFolder("bench");
const trial: Trial = { device: "cpu", extent: { batches: { tiny_vit: [4, 256], tiny_resnet: [4] }, compiled: {} }, imageSize: 32, mlp: 32, secondsAtOnce: 0.01 };
const withPython = testPython === null ? test.skip : test;

withPython("each side gives its figures, and what is measured is not measured again", async () => {
  const options = { python: testPython!, upstream: testUpstream ?? undefined, threads: 1, rounds: 2, quick: false, compile: false, dir: root, only: "tiny_vit:4,tiny_vit:256,tiny_resnet" };
  const first = await benchmarkStepGpu(options, trial);
  const upstream: Side[] = testUpstream === null ? [] : ["upstream"];
  const sidesOf = (figure: string): string[] => Object.keys(first.raw[figure] as object).sort();
  const usual: (Side | "profile")[] = ["ours", "oursGraph", "tuned", ...upstream];
  expect(sidesOf("tiny_vit_4")).toEqual([...usual].sort());
  expect(sidesOf("tiny_vit_256")).toEqual([...usual, "oursOtherPrecision", "oursDeterministic", "profile"].sort());
  expect(sidesOf("tiny_resnet_4")).toEqual([...usual, "oursNchw", "tunedNchw"].sort());
  expect(first.ratios.tiny_vit_4GraphOverEager).toBeGreaterThan(0);
  expect(first.ratios.tiny_resnet_4ChannelsLastOverNchw).toBeGreaterThan(0);
  const { profile } = first.raw.tiny_vit_256 as { profile: { ours: object } };
  expect(Object.keys(profile.ours)).toEqual(expect.arrayContaining(["forward", "queries", "keys", "momentum update", "optimizer", "look"]));
  expect(existsSync(join(root, "no-gpu", "tiny_vit_4.json"))).toBe(true);

  const again = await benchmarkStepGpu({ ...options, only: "tiny_vit:4" }, trial);
  expect(again.raw).toEqual(first.raw); // from the files, the other rows too
}, 300_000);

withPython("an unknown network or batch is refused before anything is measured", async () => {
  const options = { python: testPython!, threads: 1, rounds: 1, quick: false, dir: root };
  await expect(benchmarkStepGpu({ ...options, only: "vit_huge" }, trial)).rejects.toThrow(/no vit_huge here; give some of tiny_vit, tiny_resnet/);
  await expect(benchmarkStepGpu({ ...options, only: "tiny_vit:x" }, trial)).rejects.toThrow(/"x" is no batch size/);
});
