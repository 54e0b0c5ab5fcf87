/** `moco search` and `moco dedup`, in processes of their own. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { embedFolder, plantedFolder, plantedGroups, untrainedEncoder } from "../train/plantedDuplicates.js";
import { startMoco } from "./moco.js";

expectNoTensorsLeft();
const folder = temporaryFolder("search-command");
const [photos, pretrained, embeddings] = ["photos", "encoder.pth.tar", "photos.parquet"].map((name) => join(folder, name)) as [string, string, string];

beforeAll(async () => {
  await plantedFolder(photos);
  await untrainedEncoder(pretrained);
  await embedFolder(photos, pretrained, embeddings);
});

test("moco search prints the nearest images of each query", async () => {
  const text = await startMoco(["search", "china.jpg", join(photos, "flower.jpg"), "--in", photos, "--pretrained", pretrained, "-k", "2"]);
  expect(text).toMatchObject({ code: 0, stderr: "" });
  const line = String.raw`  \d  [01]\.\d{3}  `;
  expect(text.stdout).toMatch(new RegExp(`^china.jpg\n${line}china-copy.jpg\n${line}china-worse.jpg\n\n.*flower.jpg\n${line}flower-copy.jpg\n${line}flower-\\w+.jpg\n$`));
  const index = join(folder, "photos.index");
  const json = await startMoco(["search", "china.jpg", "--in", embeddings, "-k", "2", "--approximate", "--index", index, "--json"]);
  const result = JSON.parse(json.stdout) as { results: { query: string; neighbours: { index: number; name: string; similarity: number }[] }[] };
  expect(result).toMatchObject({ images: 26, approximate: true, bad: [] });
  expect(result.results[0]!.neighbours.map(({ name }) => name)).toEqual(["china-copy.jpg", "china-worse.jpg"]);
  expect([existsSync(index), existsSync(`${index}.json`)]).toEqual([true, true]);
});

test("moco dedup prints groups, and deletes nothing", async () => {
  const before = readdirSync(photos);
  const text = await startMoco(["dedup", photos, "--pretrained", pretrained, "--threshold", "0.98"]);
  expect(text).toMatchObject({ code: 0, stderr: "" });
  expect(text.stdout).toMatch(/^5 images, any two at least 0\.98\d similar\n {9}china-copy\.jpg\n {2}0\.98\d {2}china-cropped\.jpg\n/);
  expect(text.stdout).toMatch(/\n2 groups among 26 images; with one of each kept, 8 images could go\.\n$/);
  const json = await startMoco(["dedup", embeddings, "--threshold", "0.98", "--json"]);
  const { groups } = JSON.parse(json.stdout) as { groups: { similarity: number; images: { name: string }[] }[] };
  expect(groups.map(({ images }) => images.map(({ name }) => name).sort())).toEqual(plantedGroups.map((group) => [...group].sort()));
  const none = await startMoco(["dedup", embeddings, "--threshold", "1"]);
  expect(none.stdout).toMatch(/1 similar\.\n$|could go\.\n$/);
  expect(readdirSync(photos)).toEqual(before);
});

test("wrong usage ends with exit code 2, a failure with 1, and both say what to do", async () => {
  const cases: [string[], number, RegExp][] = [
    [["search", "china.jpg"], 2, /--in DIR or --in EMBEDDINGS/],
    [["search", "--in", embeddings], 2, /missing required argument/],
    [["search", "china.jpg", "--in", embeddings, "-k", "26"], 2, /there are 25 other images/],
    [["search", "china.jpg", "--in", photos], 2, /say with which checkpoint \(--pretrained\)/],
    [["search", "china.jpg", "--in", embeddings, "--exact", "--approximate"], 2, /contradict each other/],
    [["search", "none.jpg", "--in", embeddings], 1, /there is no image none\.jpg/],
    [["dedup"], 2, /missing required argument/],
    [["dedup", embeddings, "--threshold", "2"], 2, /number above 0 and of at most 1/],
    [["dedup", join(folder, "none.npy")], 1, /none\.npy/],
  ];
  for (const [words, expected, message] of cases) {
    const { code, stdout, stderr } = await startMoco(words);
    expect([words, code, stdout]).toEqual([words, expected, ""]);
    expect(stderr).toMatch(message);
  }
  for (const name of ["search", "dedup"]) expect((await startMoco([name, "--help"])).stdout).toMatch(new RegExp(`Examples:\n {2}\\$ moco ${name} `));
}, 120_000);
