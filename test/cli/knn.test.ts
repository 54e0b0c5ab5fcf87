import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import { addPrefix, writeCheckpoint } from "../../lib/checkpoint/index.js";
import { createMoCo } from "../../lib/moco/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import { writeDigits } from "../support/digits.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { startMoco, type Outcome } from "./moco.js";

expectNoTensorsLeft();
const folder = temporaryFolder("knn-command");
const digits = join(folder, "digits");
const [whole, diverged] = ["whole.pth.tar", "diverged.pth.tar"].map((name) => join(folder, name)) as [string, string];

beforeAll(async () => {
  await writeDigits(digits, { count: 400, pixels: 16 });
  torch.manualSeed(1);
  using moco = createMoCo({
    encoder: (numClasses) => new VisionTransformer({ imageSize: 16, patchSize: 8, embedDim: 24, depth: 1, numClasses }), dim: 8, mlpDim: 16,
  });
  const save = (path: string): Promise<void> => writeCheckpoint(path, { epoch: 1, arch: "custom", state_dict: addPrefix(moco.stateDict()) });
  await save(whole);
  torch.noGrad(() => moco.parameters()[3]!.fill_(NaN));
  await save(diverged);
});

const knn = (...words: string[]): Promise<Outcome> => startMoco(["knn", ...words]);

test("prints a table, and with --json the same figures", async () => {
  const table = await knn(digits, "--pretrained", whole, "-k", "1,20");
  expect(table).toMatchObject({ code: 0, stderr: "" });
  const rows = /^ +k +acc@1 +acc@5\n +1 +([\d.]+) % +([\d.]+) %\n +20 +([\d.]+) % +([\d.]+) %\n\n80 images of 10 classes, judged by 320\n$/.exec(table.stdout);
  expect(rows).not.toBeNull();
  const json = await knn(digits, "--pretrained", whole, "--neighbours", "1, 20", "--json");
  const result = JSON.parse(json.stdout) as { scores: { k: number; acc1: number; acc5: number }[] };
  expect(result).toMatchObject({ pretrained: whole, gallery: 320, queries: 80, leaveOneOut: false, classes: 10, layer: "class", temperature: 0.07, bad: [] });
  expect(result.scores.flatMap(({ acc1, acc5 }) => [acc1.toFixed(1), acc5.toFixed(1)])).toEqual(rows!.slice(1));
  expect(result.scores.map(({ k }) => k)).toEqual([1, 20]);
  const alone = await knn(join(digits, "train"), "--pretrained", whole, "--images", "100");
  expect(alone.stdout).toMatch(/\n\n100 images of 10 classes, each judged by all others\n$/);
});

test("wrong usage ends with exit code 2, a failure with 1, and both say what to do", async () => {
  const cases: [string[], number, RegExp][] = [
    [[], 2, /missing required argument/],
    [[digits], 2, /--pretrained CHECKPOINT/],
    [[digits, "--pretrained", whole, "-k", "20,x"], 2, /one or more whole numbers/],
    [[digits, "--pretrained", whole, "-k", "321"], 2, /k is 321, and the gallery has 320 images; choose k from 1 to 320/],
    [[digits, "--pretrained", whole, "--temperature", "0"], 2, /number above 0/],
    [[digits, "--pretrained", whole, "--device", "cuda:99"], 2, /cuda:99.*moco doctor/],
    [[digits, "--pretrained", join(folder, "none")], 1, /no checkpoint/],
    [[join(digits, "val", "3"), "--pretrained", whole], 1, /have no classes: give each class a folder/],
    [[digits, "--pretrained", diverged], 1, /features of .*\.png are not finite numbers: the checkpoint's training has diverged/],
  ];
  for (const [words, expected, message] of cases) {
    const { code, stdout, stderr } = await knn(...words);
    expect([words, code, stdout]).toEqual([words, expected, ""]);
    expect(stderr).toMatch(message);
  }
}, 60_000);

test("--help shows flags and examples", async () => {
  const { code, stdout } = await knn("--help");
  expect(code).toBe(0);
  expect(stdout).toMatch(/--neighbours[\s\S]*--gallery-precision[\s\S]*\$ moco knn imagenet --pretrained runs\/vits/);
});
