import { Command } from "commander";
import { describe, expect, test } from "@jest/globals";
import { addLinclsFlags, toLinearProbeOptions, type LinclsFlags } from "../../lib/cli/linclsFlags.js";
import { UsageError } from "../../lib/cli/usageError.js";

const flagsOf = (words: readonly string[]): LinclsFlags =>
  addLinclsFlags(new Command("lincls").argument("<DIR>").exitOverride().configureOutput({ writeErr: () => {} }))
    .parse(words, { from: "user" }).opts<LinclsFlags>();
const optionsOf = (words: string, rateGiven = false) => toLinearProbeOptions("DIR", flagsOf([...words.split(" ").filter(Boolean), "DIR"]), rateGiven);

describe("upstream's flags", () => {
  test("have its defaults", () => {
    // But for the architecture, which the checkpoint tells; without one it is upstream's.
    expect(flagsOf(["DIR"])).toEqual({
      workers: 32, epochs: 90, startEpoch: 0, batchSize: 1024, learningRate: 0.1, momentum: 0.9, weightDecay: 0, printFreq: 10, resume: "",
      worldSize: -1, rank: -1, distUrl: "tcp://224.66.41.62:23456", distBackend: "nccl", distTimeout: 600, pretrained: "", cropMin: 0.08, featureMemory: 2,
      maxBad: 0.01, logImages: 10, logHistograms: 1, saveInBackground: true,
    });
  });

  test("have its short and second names", () => {
    const words = ["-a", "vit_base", "-j", "4", "-b", "512", "--lr", "0.3", "--wd=.2", "-p5", "-e", "DIR"];
    const long = "--arch vit_base --workers 4 --batch-size=512 --learning-rate .3 --weight-decay 2e-1 --print-freq 5 --evaluate DIR".split(" ");
    expect(flagsOf(words)).toEqual(flagsOf(long));
    const given = { arch: "vit_base", workers: 4, batchSize: 512, learningRate: 0.3, weightDecay: 0.2, printFreq: 5, evaluate: true };
    expect(flagsOf(words)).toMatchObject(given);
  });

  // The linear probes that upstream's CONFIG.md publishes, without their first two words, on one machine.
  test.each([
    ["--pretrained r-50-100ep.pth.tar", { pretrained: "r-50-100ep.pth.tar", baseLr: 0.1, batchSize: 1024, epochs: 90, momentum: 0.9 }],
    ["-a vit_small --lr=3 --pretrained vit-s.pth.tar", { arch: "vit_small", baseLr: 3 }],
    ["-a vit_base --lr=3 --weight-decay=0 --momentum .9 --seed 1 --gpu 0", { arch: "vit_base", baseLr: 3, seed: 1, device: "cuda:0" }],
  ])("%s", (words, expected) => {
    const distributed = (machines: number): string => ` --dist-url tcp://localhost:10001 --multiprocessing-distributed --world-size ${machines} --rank 0`;
    expect(optionsOf(words + distributed(1))).toMatchObject({ data: "DIR", ...expected });
    expect(optionsOf(words + distributed(2))).toEqual(optionsOf(words + distributed(1)));
  });
});

test("ours reach the probe", () => {
  const words =
    "--val v --num-classes 7 --heads 3 --image-size 64 --crop-min .2 --cache-features --cache-views 4 --feature-memory 0.5 --precision bf16 " +
    "--device cpu --threads 2 --max-bad .1 --exif --images 9 --shuffle-buffer 5 --no-save-in-background --stop-after 3 --resume r --start-epoch 2";
  expect(optionsOf(words)).toMatchObject({
    val: "v", numClasses: 7, numHeads: 3, imageSize: 64, cropMin: 0.2, cacheFeatures: true, cacheViews: 4, featureMemory: 2 ** 29,
    precision: "bf16", device: "cpu", threads: 2, maxBad: 0.1, exif: true, images: 9, shuffleBuffer: 5, saveInBackground: false, stopAfter: 3,
    resume: "r", startEpoch: 2,
  });
});

describe("a sweep", () => {
  test("is a list of learning rates in the place of one", () => {
    expect(optionsOf("--sweep 0.01,.1,1e1")).toMatchObject({ sweep: [0.01, 0.1, 10], baseLr: undefined });
    expect(() => optionsOf("--sweep 0.1 --lr 0.3", true)).toThrow(UsageError);
  });

  test.each(["", "0.1,,1", "0", "-1", "a", "0.1,0.1"])("of %j is refused", (rates) => {
    expect(() => flagsOf([`--sweep=${rates}`, "DIR"])).toThrow(/It takes learning rates above 0 with commas between them/);
  });
});
