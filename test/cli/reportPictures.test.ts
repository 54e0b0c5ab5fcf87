/** `moco report position-embedding` and `moco report pictures` as a user starts them. */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import sharp from "sharp";
import { writeCheckpoint } from "../../lib/checkpoint/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import { fixturePath } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { startMoco } from "./moco.js";

expectNoTensorsLeft();
const folder = temporaryFolder("report-pictures");

test("position-embedding draws a picture with the embedding in it, and has a name where none is given", async () => {
  const { code, stdout, stderr } = await startMoco(["report", "position-embedding", "--grid", "8x8", "--width", "384"], { cwd: folder });
  expect([code, stdout]).toEqual([0, "position-embedding-8x8-384.png\n"]);
  expect(stderr).toMatch(/65 tokens by 384 dimensions, [\d.]+ kB\n$/);
  const { data, info } = await sharp(join(folder, "position-embedding-8x8-384.png")).raw().toBuffer({ resolveWithObject: true });
  expect(info.width).toBe(2 * 876);
  const colour = (x: number, y: number): number[] => [...data.subarray(info.channels * (y * info.width + x), info.channels * (y * info.width + x) + 3)];
  const rows = Array.from({ length: info.height }, (_, y) => y);
  // cos w of the longest waves is 1 all the way down, sin w 0: the deepest red and all but white, as high as the picture is.
  const red = rows.filter((y) => String(colour(2 * (84 + 380), y)) === "140,13,37");
  const white = rows.filter((y) => String(colour(2 * (84 + 180), y)) === "242,239,238");
  expect(red.length).toBeGreaterThan(500);
  expect(Math.abs(white.length - red.length)).toBeLessThan(60);
  expect(colour(2, 2)).toEqual([255, 255, 255]);
});

test("as SVG and as a page; --json has the figures of the embedding", async () => {
  const draw = (...words: string[]): ReturnType<typeof startMoco> => startMoco(["report", "position-embedding", ...words], { cwd: folder });
  expect(await draw("--grid", "12x16", "--width", "64", "--out", "a.svg")).toMatchObject({ code: 0, stdout: "a.svg\n" });
  const svg = readFileSync(join(folder, "a.svg"), "utf8");
  for (const words of ["Position embedding of 12 × 16 patches, width 64", "sin w", "cos h", "token (0: class token)", "cosine similarity"]) expect(svg).toContain(words);
  expect(svg.match(/href="(?!data:image\/png)/g)).toBeNull();
  const { code, stdout } = await draw("--grid", "4x4", "--width", "32", "--temperature", "100", "--out", "page.html", "--json");
  const facts = JSON.parse(stdout) as { similarityByDistance: { distance: number; mean: number }[] };
  expect([code, facts]).toMatchObject([0, { out: "page.html", grid: [4, 4], width: 32, temperature: 100, tokens: 17 }]);
  expect(facts.similarityByDistance.map(({ distance }) => distance)).toEqual([0, 1, 2, 3]);
  expect(readFileSync(join(folder, "page.html"), "utf8")).toMatch(/id="position-embedding"[\s\S]*2π · 100 patches[\s\S]*id="position-similarity"/);
});

test("pictures of a checkpoint become a page", async () => {
  using vit = new VisionTransformer({ imageSize: 32, patchSize: 8, embedDim: 24, depth: 1, numHeads: 2, numClasses: 0 });
  await writeCheckpoint(join(folder, "vit.pth"), { state_dict: vit.stateDict(), moco_v3_run: { num_heads: 2 } });
  mkdirSync(join(folder, "photos"));
  for (let i = 0; i < 3; i++) {
    await sharp(fixturePath("augment/files/china.jpg")).extract({ left: 90 * i, top: 20, width: 200, height: 200 }).toFile(join(folder, "photos", `${i}.jpg`));
  }
  const { code, stdout, stderr } = await startMoco(["report", "pictures", "vit.pth", "--data", "photos", "--out", "p.html"], { cwd: folder });
  expect([code, stdout]).toEqual([0, "p.html\n"]);
  expect(stderr).toMatch(/^warning: two views: left out.*\n7 figures, [\d.]+ kB\n$/);
  expect(readFileSync(join(folder, "p.html"), "utf8").match(/<section id="[a-z-]+"/g)).toHaveLength(7);
});

test("wrong usage ends with exit code 2, a failure with 1, and both say what to do", async () => {
  const usage: [string[], RegExp][] = [
    [["position-embedding", "--width", "30"], /embedDim is 30.*multiple of 4, such as 32/],
    [["position-embedding", "--grid", "14"], /rows and columns from 1, such as 14x14/],
    [["position-embedding", "--grid", "999x999"], /at most 4096 patches/],
    [["position-embedding", "--out", "a.gif"], /a\.gif; give a name that ends in \.png, \.svg or \.html/],
    [["pictures", ".", "--out", "a.png"], /a\.png; give a name that ends in \.html/],
    [["pictures", ".", "--device", "tpu"], /device is "tpu"/],
  ];
  for (const [words, message] of usage) {
    const { code, stdout, stderr } = await startMoco(["report", ...words], { cwd: folder });
    expect([words, code, stdout]).toEqual([words, 2, ""]);
    expect(stderr).toMatch(message);
  }
  expect(await startMoco(["report", "pictures", "nowhere"], { cwd: folder })).toMatchObject({ code: 1, stderr: expect.stringMatching(/^error: there is no run and no checkpoint nowhere; give/) });
  mkdirSync(join(folder, "nothing"));
  expect(await startMoco(["report", "pictures", "nothing"], { cwd: folder })).toMatchObject({ code: 1, stderr: expect.stringMatching(/warning: .*\n.*there is nothing to show/) });
});
