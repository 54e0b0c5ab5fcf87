import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "@jest/globals";
import { hasNvidiaDriver } from "../../lib/setup/nvidiaDriver.js";
import { benchmarkEndToEnd } from "../../scripts/bench/end2end.js";
import { Peer } from "../../scripts/bench/peer.js";
import { makePhotographs } from "../../scripts/bench/photographs.js";
import { recipeOf, type StepsAnswer, type StepsRequest, type TrainingSettings } from "../../scripts/bench/pretrainingProtocol.js";
import { present } from "../../scripts/bench/presentations/index.js";
import type { BenchmarkResult } from "../../scripts/bench/result.js";
import { readRunLog } from "../../lib/report/index.js";
import { mainScript } from "../cli/moco.js";
import { testPython, testUpstream } from "../support/python.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

const folder = temporaryFolder("bench");
const peers: Peer[] = [];
afterAll(() => peers.forEach((peer) => peer.close()));

test("our side trains on photographs and on synthetic views in turn, in pretrain's own loop, a step for each that is asked for", async () => {
  mkdirSync(join(folder, "photographs", "all"), { recursive: true });
  await makePhotographs(join(folder, "photographs", "all"), 4);
  const settings: TrainingSettings = {
    ...recipeOf("resnet18"), batch: 2, imageSize: 32, mlpDim: 16, device: "cpu", precision: "fp32", threads: 1, workers: 1,
    folder: join(folder, "photographs"),
  };
  const program = fileURLToPath(new URL("../../scripts/bench/peers/pretraining.js", import.meta.url));
  const peer = new Peer("ours", process.execPath, [program, JSON.stringify(settings), join(folder, "run")]);
  peers.push(peer);
  const ask = (request: StepsRequest): Promise<StepsAnswer> => peer.ask(JSON.stringify(request));
  const first = await ask({ views: "photographs", steps: 2 });
  const second = await ask({ views: "synthetic", steps: 1 });
  const third = await ask({ views: "photographs", steps: 3 });
  for (const { loss, seconds, peakBytes } of [first, second, third]) {
    expect(loss).toBeGreaterThan(0);
    expect(seconds).toBeGreaterThan(0);
    expect(peakBytes).toBeGreaterThan(1e8); // the process with its libraries
  }
  const { steps } = readRunLog(join(folder, "run", "log.jsonl"));
  expect(steps.map(({ step }) => step)).toEqual([0, 1, 2, 3, 4, 5]);
  expect([first.loss, second.loss, third.loss]).toEqual([1, 2, 5].map((step) => steps[step]!.loss));
  expect(steps[2]!.dataWaitMs).toBe(0); // views that are there are not waited for
});

(hasNvidiaDriver() ? test.skip : test)("a GPU that is not there is told before photographs are made", async () => {
  const options = { python: "python3", threads: 1, rounds: 1, quick: true, device: "cuda" };
  await expect(benchmarkEndToEnd(options)).rejects.toThrow(/no driver for --device cuda here; .*moco doctor/);
});

const withUpstream = testPython === null || testUpstream === null ? test.skip : test;
withUpstream("the whole benchmark, upstream's data set, loader and step beside ours", () => {
  const words = ["bench", "end2end", "--quick", "--rounds", "1", "--threads", "1", "--python", testPython!, "--upstream", testUpstream!, "--json"];
  const result = JSON.parse(execFileSync(process.execPath, [mainScript, ...words], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })) as BenchmarkResult;
  expect(result.name).toBe("end2end");
  const { seconds, peakBytes } = result.raw["resnet18"] as { seconds: Record<string, Record<string, number[]>>; peakBytes: Record<string, number> };
  const [ours, upstream] = [seconds["ours"]!, seconds["upstream"]!];
  const perSecond = (theirs: number[] | undefined, mine: number[] | undefined): number => theirs![0]! / mine![0]!;
  expect(result.ratios).toEqual({
    resnet18KeptImagesPerSecond: perSecond(ours["synthetic"], ours["photographs"]),
    resnet18KeptImagesPerSecondUpstream: perSecond(upstream["synthetic"], upstream["photographs"]),
    resnet18ImagesPerSecond: perSecond(upstream["photographs"], ours["photographs"]),
    resnet18PeakMemory: peakBytes["ours"]! / peakBytes["upstream"]!,
  });
  expect(Object.keys(result.meanings!)).toEqual(Object.keys(result.ratios));
  expect(present(result).rows).toHaveLength(1);
}, 120_000);
