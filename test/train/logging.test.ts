/** What trainings tell their loggers, and that this changes nothing in them. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import sharp from "sharp";
import { TwoViewLoader } from "../../lib/data/index.js";
import type { ProcessGroup } from "../../lib/distributed/index.js";
import { ResNet } from "../../lib/models/index.js";
import { CsvLogger, Loggers, TensorBoardLogger, type Histogram, type LoggedPicture, type LogEntry, type LogPlace, type RunLogger } from "../../lib/report/index.js";
import * as torch from "../../lib/torch/index.js";
import { OptionError } from "../../lib/train/options.js";
import type { PretrainOptions } from "../../lib/train/pretrainOptions.js";
import { resolveLogging } from "../../lib/train/runs/logging.js";
import { tensorHistogram } from "../../lib/train/runs/tensorHistogram.js";
import { TensorLog } from "../../lib/train/runs/tensorLog.js";
import { writeDigits } from "../support/digits.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { runFinetune, writeFinetuneFiles } from "./finetuneRun.js";
import { runProbe, vit, writeEncoder } from "./probeRun.js";
import { runTiny, stateBytes, tinyOptions } from "./tinyRun.js";

expectNoTensorsLeft();
const root = temporaryFolder("logging");
let counter = 0;
const newFolder = (): string => join(root, `run-${counter++}`);

class Everything implements RunLogger {
  readonly entries: LogEntry[] = [];
  readonly pictures: [tag: string, picture: LoggedPicture, place: LogPlace][] = [];
  readonly histograms: [tag: string, histogram: Histogram, place: LogPlace][] = [];
  closed = 0;
  log(entry: LogEntry): void {
    this.entries.push(entry);
  }
  images(...picture: [string, LoggedPicture, LogPlace]): void {
    this.pictures.push(picture);
  }
  histogram(...histogram: [string, Histogram, LogPlace]): void {
    this.histograms.push(histogram);
  }
  close(): void {
    this.closed++;
  }
}

describe("a histogram", () => {
  test("counts each value once, in bins from the smallest to the largest", () => {
    using tensor = torch.tensor(Float32Array.from([0, 0.5, 1, 1.5, 2, 2, 4, 3.99]), [2, 4]);
    expect(tensorHistogram(tensor, 4)).toEqual({
      min: 0, max: 4, count: 8, sum: expect.closeTo(14.99, 5), sumOfSquares: expect.closeTo(43.4201, 3), limits: [1, 2, 3, 4], counts: [2, 2, 2, 2],
    });
    using normal = torch.scope(() => torch.randn([50_000]).to("float64"));
    const { counts, limits, sum, count } = tensorHistogram(normal)!;
    expect(counts.reduce((a, b) => a + b)).toBe(50_000);
    expect(counts).toHaveLength(32);
    expect(limits).toEqual([...limits].sort((a, b) => a - b));
    expect(Math.abs(sum / count)).toBeLessThan(0.02);
  });

  test("of values that are all the same has one bin, and of none, or of what is not finite, there is none", () => {
    using same = torch.full([2, 3], 0.1);
    expect(tensorHistogram(same)).toMatchObject({ limits: [Math.fround(0.1)], counts: [6], count: 6 });
    using none = torch.zeros([0, 3]);
    using spoilt = torch.tensor(Float32Array.from([1, NaN, 2]));
    using endless = torch.tensor(Float32Array.from([1, Infinity]));
    expect([none, spoilt, endless].map((each) => tensorHistogram(each))).toEqual([null, null, null]);
  });
});

describe("a pre-training", () => {
  const resnet: Partial<PretrainOptions> = {
    encoder: () => new ResNet({ block: "basic", layers: [1, 1, 1, 1], width: 4, numClasses: 16 }), arch: "resnet_tiny", imageSize: 32, optimizer: "lars", lr: 0.1,
  };
  test.each([["ViT", {}], ["ResNet with BatchNorm", resnet]])("of a %s has the same weights and log with loggers as without", async (_, changes) => {
    const states: Map<string, Uint8Array>[] = [];
    const [plain, logged] = [newFolder(), newFolder()];
    const everything = new Everything();
    await runTiny({ ...changes, out: plain }, {}, (moco) => states.push(stateBytes(moco)));
    const loggers = [everything, new TensorBoardLogger(), new CsvLogger()];
    await runTiny({ ...changes, out: logged, loggers, logImagesEvery: 1 }, {}, (moco) => states.push(stateBytes(moco)));
    expect(states[1]).toEqual(states[0]);
    const lines = readFileSync(join(logged, "log.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line) as LogEntry);
    expect(JSON.parse(JSON.stringify(everything.entries))).toEqual(lines);
    expect(lines.map(({ kind }) => kind).filter((kind) => kind !== "warning").sort()).toEqual(["checkpoint", "checkpoint", "end", "run", ...Array<string>(6).fill("step")]);
    const run = JSON.parse(readFileSync(join(plain, "log.jsonl"), "utf8").split("\n")[0]!) as { options: object };
    expect(Object.keys(run.options).filter((name) => /logg/.test(name))).toEqual([]);
    expect(Object.keys(run.options)).toEqual(Object.keys((lines[0] as unknown as typeof run).options));
    expect(everything.closed).toBe(1);
    expect(everything.pictures.map(([tag, , { step }]) => [tag, step])).toEqual([["train/views", 0], ["train/views", 3]]);
    expect(new Set(everything.histograms.map(([, , { step }]) => step))).toEqual(new Set([2, 5]));
    expect(everything.histograms.filter(([tag]) => tag === "features/encoder")).toHaveLength(2);
  });

  test("shows the views that the network sees, and counts all weights that are trained", async () => {
    const everything = new Everything();
    let trained: string[] = [];
    await runTiny({ loggers: [everything], epochs: 1 }, {}, (moco) => {
      trained = moco.namedParameters().filter(([, { requiresGrad }]) => requiresGrad).map(([name]) => `weights/${name}`);
    });
    expect(everything.histograms.map(([tag]) => tag)).toEqual([...trained, "features/encoder"]);
    expect(trained).toContain("weights/base_encoder.blocks.0.attn.qkv.weight");
    expect(trained.filter((name) => /momentum|patch_embed/.test(name))).toEqual([]);
    expect(everything.histograms.at(-1)![1].count).toBe(4 * 16);

    const [[, { png, width, height }]] = everything.pictures as [[string, LoggedPicture, LogPlace]];
    const pixels = await sharp(png).raw().toBuffer({ resolveWithObject: true });
    expect(pixels.info).toMatchObject({ width, height, channels: 3 });
    expect([width, height]).toEqual([4 + 4 * 20, 4 + 2 * 20]);
    await using loader = new TwoViewLoader(tinyOptions.data, { batchSize: 4, imageSize: 16, seed: 7, threads: 1, dtype: "uint8" });
    for await (using batch of loader.epoch(0)) {
      for (const [row, view] of batch.views.entries()) {
        const bytes = view.data();
        for (const [image, channel, y, x] of [[0, 0, 0, 0], [1, 2, 3, 5], [3, 1, 15, 15]] as const) {
          const there = pixels.data[3 * ((4 + 20 * row + y) * width + 4 + 20 * image + x) + channel];
          expect(there).toBe(bytes[((image * 3 + channel) * 16 + y) * 16 + x]);
        }
      }
      break;
    }
  });

  test("in chunks, whose views are bytes, shows them too", async () => {
    const [whole, chunked] = [new Everything(), new Everything()];
    await runTiny({ loggers: [whole], epochs: 1, stopAfter: 1 });
    await runTiny({ loggers: [chunked], epochs: 1, microBatch: 2, logHistogramsEvery: 0 });
    expect(Buffer.from(chunked.pictures[0]![1].png).equals(Buffer.from(whole.pictures[0]![1].png))).toBe(true);
    expect(chunked.histograms).toEqual([]);
  });

  test("goes on when loggers fail, whatever they fail in", async () => {
    const fail = (): never => {
      throw new Error("broken");
    };
    const warnings: string[] = [];
    const loggers: RunLogger[] = [
      { name: "first", log: fail }, { name: "second", log: () => undefined, images: fail }, { name: "third", log: () => undefined, histogram: fail },
      { name: "fourth", log: () => Promise.reject(new Error("broken")) }, { name: "fifth", log: () => undefined, close: fail }, new CsvLogger(),
    ];
    const { result } = await runTiny({ loggers, epochs: 1 }, { onWarning: (message) => warnings.push(message) });
    expect(result.reason).toBe("finished");
    const told = warnings.filter((message) => message.includes("fails and is switched off"));
    expect(told.map((message) => message.split(" fails")[0]).sort()).toEqual(["fifth", "first", "fourth", "second", "the CSV log", "third"]);
  });

  test("goes on where a picture or a histogram cannot be made", () => {
    const warnings: string[] = [];
    const warn = (message: string): void => void warnings.push(message);
    const everything = new Everything();
    const loggers = new Loggers([everything], { folder: null, warn });
    using network = new ResNet({ block: "basic", layers: [1, 1, 1, 1], width: 4, numClasses: 16 });
    const log = new TensorLog(loggers, { loggers: [], imagesEvery: 1, histogramsEvery: 1 }, { network, encoder: network, stepsPerEpoch: 1 }, warn);
    const spent = torch.zeros([2, 3, 32, 32]);
    spent.dispose();
    for (let step = 0; step < 2; step++) log.afterStep({ step, epoch: step, stepInEpoch: 0 }, [spent]);
    expect(warnings).toEqual([expect.stringMatching(/^there are no more pictures and histograms in the logs; the training goes on without them: /)]);
    expect(network.training).toBe(true);
    expect(everything.pictures).toEqual([]);
  });

  test("takes loggers only, and only in the first process", () => {
    expect(() => resolveLogging({ loggers: ["tensorboard" as unknown as RunLogger] })).toThrow(OptionError);
    expect(() => resolveLogging({ logImagesEvery: 0.5 })).toThrow(/logImagesEvery/);
    const loggers = [new Everything()];
    const ranks = [0, 1].map((rank) => resolveLogging({ loggers, group: { rank } as ProcessGroup }).loggers.length);
    expect(ranks).toEqual([1, 0]);
  });
});

describe("trainings with labels", () => {
  let files: { data: string; pretrained: string };
  beforeAll(async () => {
    files = await writeFinetuneFiles(join(root, "finetune"), 400);
    await writeDigits(join(root, "digits"), { count: 400, pixels: 16 });
  });

  test("a fine-tuning shows its images, and has the same weights as without loggers", async () => {
    const everything = new Everything();
    const weights: Uint8Array[][] = [];
    for (const loggers of [[], [everything]]) {
      await runFinetune({ ...files, epochs: 1, loggers }, {}, (model) => weights.push([...model.stateDict().values()].map((tensor) => tensor.bytes())));
    }
    expect(weights[1]).toEqual(weights[0]);
    expect(everything.pictures.map(([tag, , { step }]) => [tag, step])).toEqual([["train/images", 0]]);
    expect(everything.histograms.map(([tag]) => tag)).toContain("weights/head.weight");
    expect(everything.entries.map(({ kind }) => kind)).toContain("evaluation");
    expect(everything.entries[0]).toMatchObject({ kind: "run", firstStep: 0 });
    expect((everything.entries[0] as { options: object }).options).not.toHaveProperty("logging");
  });

  test("a linear probe counts its classifier's weights", async () => {
    const everything = new Everything();
    const pretrained = await writeEncoder(root, vit);
    await runProbe({ data: join(root, "digits"), pretrained, epochs: 1, loggers: [everything] });
    expect(everything.histograms.map(([tag]) => tag)).toEqual(["weights/head.weight", "weights/head.bias"]);
    expect(everything.entries.filter(({ kind }) => kind === "evaluation")).toHaveLength(1);
    expect(everything.closed).toBe(1);
  });
});
