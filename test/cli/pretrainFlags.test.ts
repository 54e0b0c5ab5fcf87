import { join } from "node:path";
import { Command } from "commander";
import { describe, expect, test } from "@jest/globals";
import { programWords, shellLine, withoutFlags } from "../../lib/cli/commandLine.js";
import { applyConfigFile } from "../../lib/cli/configFile.js";
import { addPretrainFlags, toPretrainOptions, type PretrainFlags } from "../../lib/cli/pretrainFlags.js";
import { UsageError } from "../../lib/cli/usageError.js";
import { architectures } from "../../lib/models/index.js";
import { withFolder } from "../data/pixels.js";

function commandOf(words: readonly string[]): Command {
  const command = addPretrainFlags(new Command("pretrain").argument("<DIR>").exitOverride().configureOutput({ writeErr: () => {} }));
  return command.parse(words, { from: "user" });
}

const flagsOf = (words: readonly string[]): PretrainFlags => commandOf(words).opts<PretrainFlags>();

describe("upstream's flags", () => {
  test("have its defaults", () => {
    expect(flagsOf(["DIR"])).toEqual({
      arch: "resnet50", workers: 32, epochs: 100, startEpoch: 0, batchSize: 4096, learningRate: 0.6, momentum: 0.9, weightDecay: 1e-6,
      printFreq: 10, resume: "", worldSize: -1, rank: -1, distUrl: "tcp://224.66.41.62:23456", distBackend: "nccl", distTimeout: 600, mocoDim: 256,
      mocoMlpDim: 4096, mocoM: 0.99, mocoT: 1, optimizer: "lars", warmupEpochs: 10, cropMin: 0.08, logImages: 10, logHistograms: 1,
      imageSize: 224, maxBad: 0.01, augment: "cpu", cudaGraph: "off", saveEvery: { epochs: 1 }, saveInBackground: true,
      watch: true, onSpike: "warn", spikeRatio: 10, rollbackSteps: 100,
    });
  });

  test("have its short and second names", () => {
    const words = ["-a", "vit_base", "-j", "4", "-b", "512", "--lr", "0.1", "--wd=.2", "-p5", "DIR"];
    const long = "--arch vit_base --workers 4 --batch-size=512 --learning-rate .1 --weight-decay 2e-1 --print-freq 5 DIR".split(" ");
    expect(flagsOf(words)).toEqual(flagsOf(long));
    const given = { arch: "vit_base", workers: 4, batchSize: 512, learningRate: 0.1, weightDecay: 0.2, printFreq: 5 };
    expect(flagsOf(words)).toMatchObject(given);
  });

  // Setups that upstream's CONFIG.md publishes, without their first two words.
  test.each([
    [
      "ResNet-50, 100 epochs", "--moco-m-cos --crop-min=.2",
      { mCos: true, cropMin: 0.2, encoder: "resnet50", baseLr: 0.6, optimizer: "lars" },
    ],
    ["ResNet-50, 300 epochs", "--lr=.3 --epochs=300 --moco-m-cos --crop-min=.2", { baseLr: 0.3, epochs: 300 }],
    [
      "ResNet-50, 1000 epochs", "--lr=.3 --wd=1.5e-6 --epochs=1000 --moco-m=0.996 --moco-m-cos --crop-min=.2",
      { weightDecay: 1.5e-6, epochs: 1000, m: 0.996 },
    ],
    [
      "ViT-Small", "-a vit_small -b 1024 --optimizer=adamw --lr=1.5e-4 --weight-decay=.1 --epochs=300 --warmup-epochs=40 " +
        "--stop-grad-conv1 --moco-m-cos --moco-t=.2",
      {
        encoder: "vit_small", batchSize: 1024, optimizer: "adamw", baseLr: 1.5e-4, weightDecay: 0.1, epochs: 300, warmupEpochs: 40,
        stopGradConv1: true, mCos: true, temperature: 0.2,
      },
    ],
  ])("%s", (_, recipe, expected) => {
    const distributed = (machines: number): string[] =>
      `--dist-url tcp://localhost:10001 --multiprocessing-distributed --world-size ${machines} --rank 0 DIR`.split(" ");
    expect(toPretrainOptions("DIR", flagsOf([...recipe.split(" "), ...distributed(1)]))).toMatchObject({ data: "DIR", ...expected });
    // With whom it trains is another matter: see test/distributed/placement.test.ts.
    expect(toPretrainOptions("DIR", flagsOf([...recipe.split(" "), ...distributed(2)]))).toMatchObject(expected);
  });

  test.each([
    ["--gpu 1 --device cpu", /--gpu 1 and --device cpu/],
  ])("%s is refused", (words, message) => {
    expect(() => toPretrainOptions("DIR", flagsOf([...words.split(" "), "DIR"]))).toThrow(message);
  });

  test("those of kNN reach the training", () => {
    const words = "--knn-every 5 --knn-data labelled --knn-images 1000 photos".split(" ");
    expect(toPretrainOptions("photos", flagsOf(words))).toMatchObject({ knnEvery: 5, knnData: "labelled", knnImages: 1000 });
  });

  test("the data's flags reach the training", () => {
    const words = "--exif --augment gpu --deterministic --images 500 --shuffle-buffer 50 pipe:cat".split(" ");
    expect(toPretrainOptions("pipe:cat", flagsOf(words))).toMatchObject({
      data: "pipe:cat", exif: true, augment: "gpu", deterministic: true, images: 500, shuffleBuffer: 50,
    });
  });

  test("--gpu chooses a GPU", () => {
    expect(toPretrainOptions("DIR", flagsOf(["--gpu", "2", "DIR"])).device).toBe("cuda:2");
  });
});

test("the help names every architecture", () => {
  const help = commandOf(["DIR"]).helpInformation();
  for (const name of architectures) expect(help).toContain(name);
});

describe("values", () => {
  test.each([
    ["--epochs", "0", /'0'.*whole number of at least 1/], ["--epochs", "1e3", /'1e3'.*whole number/], ["--epochs", "2.5", /2.5/],
    ["--batch-size", "1", /at least 2/],
    ["--lr", "fast", /'fast'.*number of at least 0/], ["--lr", "Infinity", /number/], ["--lr", "", /number/],
    ["--moco-m", "1.01", /at least 0 and of at most 1/], ["--moco-t", "0", /above 0/], ["--crop-min", "0", /above 0 and of at most 1/],
    ["--momentum", "1", /below 1/], ["--optimizer", "sgd", /lars, adamw/], ["--precision", "int8", /fp32, bf16, fp16/],
    ["--augment", "tpu", /cpu, gpu/], ["--images", "0", /at least 1/], ["--shuffle-buffer", "0", /at least 1/],
    ["--seed", "-1", /at least 0/], ["--max-bad", "2", /at most 1/],
    ["--save-every", "0", /at least 1/], ["--save-every", "5m", /500steps/],
  ])("%s %s is refused, with its limit", (flag, value, message) => {
    expect(() => flagsOf([flag, value, "DIR"])).toThrow(message);
  });

  test("--save-every takes epochs or steps", () => {
    expect(["3", "3epochs", "500steps", "1 step"].map((text) => flagsOf(["--save-every", text, "DIR"]).saveEvery)).toEqual([
      { epochs: 3 }, { epochs: 3 }, { steps: 500 }, { steps: 1 },
    ]);
  });
});

describe("--config", () => {
  async function configured(content: string, words: string[]): Promise<PretrainFlags> {
    let flags: PretrainFlags | undefined;
    await withFolder({ "recipe.json": content }, async (folder) => {
      const command = commandOf([...words, "DIR"]);
      applyConfigFile(command, join(folder, "recipe.json"));
      flags = command.opts<PretrainFlags>();
    });
    return flags!;
  }

  test("gives flags that the command line does not", async () => {
    const keys = { arch: "vit_small", "batch-size": 256, lr: 1.5e-4, wd: "0.1", "moco-m-cos": true, "save-every": "9steps", epochs: 7 };
    const content = JSON.stringify(keys);
    expect(await configured(content, ["--epochs", "100", "-b", "8"])).toMatchObject({
      arch: "vit_small", batchSize: 8, learningRate: 1.5e-4, weightDecay: 0.1, mocoMCos: true, saveEvery: { steps: 9 }, epochs: 100,
    });
    expect(await configured('{"learning-rate": 0.5}', [])).toMatchObject({ learningRate: 0.5 });
  });

  test.each([
    ['{"batch_size": 8}', /"batch_size" is no flag of pretrain; the flags are arch, .*batch-size/],
    ['{"config": "x"}', /"config" is no flag/],
    ['{"epochs": 0}', /"epochs" is 0. It takes a whole number of at least 1/],
    ['{"moco-m-cos": 1}', /"moco-m-cos" is 1; it is a switch/],
    ['{"lr": [1]}', /"lr" is \[1\]; it takes a number/],
    ['{"optimizer": "sgd"}', /"optimizer" is "sgd"/],
    ["[1]", /holds no object/],
    ["{", /cannot be used/],
  ])("%s is refused", async (content, message) => {
    await expect(configured(content, [])).rejects.toThrow(UsageError);
    await expect(configured(content, [])).rejects.toThrow(message);
  });

  test("a file that is not there", () => {
    expect(() => applyConfigFile(commandOf(["DIR"]), "/nowhere.json")).toThrow(/--config \/nowhere.json cannot be used/);
  });
});

describe("the command to go on with", () => {
  test("loses the flags that it replaces", () => {
    const words = ["pretrain", "--resume", "a", "DIR", "--resume=b", "--out", "c", "--lr=1", "--", "--out"];
    expect(withoutFlags(words, ["--resume", "--out"])).toEqual(["pretrain", "DIR", "--lr=1", "--", "--out"]);
  });

  test("starts as this process was started, and is quoted for a shell", () => {
    expect(programWords("/usr/local/bin/moco", "/x")).toEqual(["moco"]);
    expect(programWords("/x/node_modules/.bin/moco", "/x")).toEqual(["npx", "moco"]);
    expect(programWords("/x/dist/lib/cli/main.js", "/x")).toEqual(["node", "dist/lib/cli/main.js"]);
    expect(shellLine(["moco", "my photos", "it's", "a=b", "$x"])).toBe(String.raw`moco 'my photos' 'it'\''s' a=b '$x'`);
  });
});
