import { mkdirSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { LabelledDataError } from "../../lib/data/index.js";
import { Embedder } from "../../lib/train/embedder/embedder.js";
import { FeatureError } from "../../lib/train/features.js";
import { evaluateKnn, type KnnProgress } from "../../lib/train/knnEvaluation.js";
import { OptionError } from "../../lib/train/options.js";
import { writeDigits } from "../support/digits.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { runTiny } from "./tinyRun.js";

expectNoTensorsLeft();
const folder = temporaryFolder("knn");
const digits = join(folder, "digits");
const pretrained = join(folder, "run");

beforeAll(async () => {
  await writeDigits(digits, { count: 400, pixels: 16 });
  await runTiny({ out: pretrained, stopAfter: 1 });
});

/** Files of a part, in the order of classes and names, and their classes. */
function filesOf(part: string): { paths: string[]; labels: number[] } {
  const paths = Array.from({ length: 10 }, (_, digit) => readdirSync(join(digits, part, String(digit))).sort().map((name) => join(digits, part, String(digit), name)));
  return { paths: paths.flat(), labels: paths.flatMap((each, digit) => each.map(() => digit)) };
}

/** Percent right among the first and the first five, by plain loops over what `Embedder` gives. */
async function byHand(k: number, temperature: number, leaveOneOut: boolean): Promise<number[]> {
  using embedder = await Embedder.load(pretrained);
  const unit = (row: Float32Array): number[] => Array.from(row, (value) => value / Math.hypot(...row));
  const [train, val] = [filesOf("train"), filesOf("val")];
  const gallery = (await embedder.embed(train.paths)).map(unit);
  const queries = leaveOneOut ? gallery : (await embedder.embed(val.paths)).map(unit);
  const truth = leaveOneOut ? train.labels : val.labels;
  const ranks = queries.map((query, q) => {
    const similarity = gallery.map((row, g) => (leaveOneOut && g === q ? -2 : row.reduce((sum, value, i) => sum + value * query[i]!, 0)));
    const nearest = similarity.map((_, g) => g).sort((a, b) => similarity[b]! - similarity[a]!).slice(0, k);
    const votes = new Array<number>(10).fill(0);
    for (const g of nearest) votes[train.labels[g]!]! += Math.exp(similarity[g]! / temperature);
    const order = votes.map((_, label) => label).sort((a, b) => votes[b]! - votes[a]! || a - b);
    return order.indexOf(truth[q]!);
  });
  return [1, Math.min(5, k)].map((n) => (100 * ranks.filter((rank) => rank < n).length) / ranks.length);
}

test("real images: a validation part, and without one each image by the others", async () => {
  const heard: KnnProgress[] = [];
  const whole = await evaluateKnn({ data: digits, pretrained, neighbours: [1, 10], batchSize: 50, onProgress: (each) => void heard.push(each) });
  expect(whole).toMatchObject({ gallery: 320, queries: 80, leaveOneOut: false, classes: 10, layer: "class", imageSize: [16, 16], temperature: 0.07, bad: [] });
  for (const { k, acc1, acc5 } of whole.scores) expect([acc1, acc5]).toEqual(await byHand(k, 0.07, false));
  expect(whole.scores.map(({ k }) => k)).toEqual([1, 10]);
  expect(whole.scores[1]!.acc1).toBeGreaterThan(25); // ten classes; even a random network keeps something
  const ends = (["gallery", "queries", "neighbours"] as const).map((stage) => heard.filter((each) => each.stage === stage).at(-1));
  expect(ends).toEqual([{ stage: "gallery", done: 320, total: 320 }, { stage: "queries", done: 80, total: 80 }, { stage: "neighbours", done: 80, total: 80 }]);

  const alone = await evaluateKnn({ data: join(digits, "train"), pretrained, neighbours: [5], temperature: 0.2 });
  expect(alone).toMatchObject({ gallery: 320, queries: 320, leaveOneOut: true });
  expect([alone.scores[0]!.acc1, alone.scores[0]!.acc5]).toEqual(await byHand(5, 0.2, true));
  const separate = await evaluateKnn({ data: join(digits, "train"), val: join(digits, "val"), pretrained, neighbours: [1, 10] });
  expect(separate.scores).toEqual(whole.scores);
});

test("a fixed random subset; other layers; bfloat16", async () => {
  const some = { data: digits, pretrained, images: 40, neighbours: [5] };
  const first = await evaluateKnn(some);
  expect(first).toMatchObject({ gallery: 40, queries: 40 });
  expect((await evaluateKnn(some)).scores).toEqual(first.scores);
  const patches = await evaluateKnn({ ...some, layer: "patches", precision: "bf16", galleryPrecision: "bf16" });
  expect(patches.layer).toBe("patches");
  expect(patches.scores[0]!.acc1).toBeGreaterThan(20);
});

test("unreadable images are left out and named", async () => {
  const broken = join(digits, "train", "3", "broken.png");
  writeFileSync(broken, "no image");
  const { bad, gallery } = await evaluateKnn({ data: digits, pretrained });
  expect([gallery, bad.map(({ name }) => name)]).toEqual([320, [join("3", "broken.png")]]);
  renameSync(broken, join(folder, "broken.png"));
});

describe("what cannot be judged says what to do", () => {
  test.each<[string, object, new (...args: never[]) => Error, RegExp]>([
    ["more neighbours than images", { neighbours: [20, 321] }, OptionError, /k is 321, and the gallery has 320 images; choose k from 1 to 320/],
    ["more neighbours than others", { data: join(digits, "train"), neighbours: [320] }, OptionError, /each leaves itself out; choose k from 1 to 319/],
    ["more neighbours than a subset", { images: 10 }, OptionError, /k is 20, and the gallery has 10 images/],
    ["half a neighbour", { neighbours: [1.5] }, OptionError, /k is 1.5; give a whole number/],
    ["no temperature", { temperature: 0 }, OptionError, /temperature is 0; give a number above 0/],
    ["float16 on the CPU", { device: "cpu", galleryPrecision: "fp16" }, OptionError, /fp16 needs a GPU/],
    ["images without classes", { data: join(digits, "train", "3") }, LabelledDataError, /have no classes: give each class a folder/],
    ["other classes in the validation part", { val: join(folder, "others") }, LabelledDataError, /has no images of 2, 3.*add the missing folders/],
    ["a layer that is not there", { layer: "pooled" }, FeatureError, /layer is "pooled".*choose class or patches/],
    ["a checkpoint that is not there", { pretrained: join(folder, "nowhere") }, Error, /no checkpoint .*nowhere/],
  ])("%s", async (_, changes, kind, message) => {
    for (const name of ["0", "1"]) mkdirSync(join(folder, "others", name), { recursive: true });
    for (const name of ["0", "1"]) writeFileSync(join(folder, "others", name, "a.png"), "no image");
    const failure = evaluateKnn({ data: digits, pretrained, ...changes });
    await expect(failure).rejects.toThrow(kind);
    await expect(failure).rejects.toThrow(message);
  });

  test("none can be read", async () => {
    const others = join(folder, "others");
    await expect(evaluateKnn({ data: others, pretrained, neighbours: [1] })).rejects.toThrow(/none of the images can be read \(.*a\.png: .*mend the files/);
  });
});
