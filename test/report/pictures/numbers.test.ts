/** The numbers behind the pictures: positions, principal components, places on the map. */
import { expect, test } from "@jest/globals";
import { positionEmbedding2d, VisionTransformer } from "../../../lib/models/index.js";
import { RandomStream } from "../../../lib/data/index.js";
import { colourOf, signed } from "../../../lib/report/pictures/colourScale.js";
import { embeddingLayout } from "../../../lib/report/pictures/embeddingLayout.js";
import { patchColours } from "../../../lib/report/pictures/patchColours.js";
import { positionCaption, positionPlot, similarityCaption, similarityPlot } from "../../../lib/report/pictures/positionPlot.js";
import { positionSimilarities, sineCosineTable, tableOf } from "../../../lib/report/pictures/positionTable.js";
import { principalComponents } from "../../../lib/report/pictures/principalComponents.js";
import { similarityByDistance } from "../../../lib/report/pictures/similarityByDistance.js";
import * as torch from "../../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";

expectNoTensorsLeft();

test("similarities of positions follow the formula: the mean of cos(ω·Δ) over both directions", () => {
  const [rows, columns, width] = [5, 5, 32];
  const similarities = positionSimilarities(sineCosineTable([rows, columns], width));
  const omegas = Array.from({ length: width / 4 }, (_, k) => 10000 ** (-k / (width / 4)));
  const mean = (delta: number): number => omegas.reduce((sum, omega) => sum + Math.cos(omega * delta), 0) / omegas.length;
  for (const [a, b] of [[0, 0], [0, 1], [7, 19], [24, 3], [12, 12]] as const) {
    const [down, across] = [Math.floor(a / columns) - Math.floor(b / columns), (a % columns) - (b % columns)];
    expect(similarities[a * 25 + b]).toBeCloseTo((mean(down) + mean(across)) / 2, 6);
  }
});

test("similarity by distance: the same at every place of a square grid, scrambled on others", () => {
  const square = similarityByDistance(sineCosineTable([6, 6], 24));
  expect(square.map(({ distance }) => distance)).toEqual([0, 1, 2, 3, 4, 5]);
  for (const { least, most } of square) expect(most - least).toBeLessThan(1e-6);
  expect(square[0]!.mean).toBeCloseTo(1, 10);
  expect(square[2]!.mean).toBeLessThan(square[1]!.mean);
  const oblong = similarityByDistance(sineCosineTable([3, 6], 24));
  expect(oblong.some(({ least, most }) => most - least > 0.01)).toBe(true);
});

test("the picture has a row for each token and a column for each dimension, in the colours of its values", () => {
  const table = sineCosineTable([4, 6], 16);
  const { raster, x, y, scale } = positionPlot(table);
  const [across, down] = [raster.width / 16, raster.height / 25];
  expect([across, down]).toEqual([44, 12]);
  using embedding = positionEmbedding2d(4, 6, 16);
  const values = embedding.data() as Float32Array;
  for (const [token, dimension] of [[0, 0], [0, 15], [1, 4], [9, 1], [24, 8], [24, 15]] as const) {
    const at = 4 * ((token * down + 1) * raster.width + dimension * across + 1);
    expect([...raster.data.subarray(at, at + 3)]).toEqual([...colourOf(signed(1, ""), values[token * 16 + dimension]!)]);
  }
  expect(x.sections!.map(({ from, text }) => `${from} ${text}`)).toEqual(["0 sin w", "0.25 cos w", "0.5 sin h", "0.75 cos h"]);
  expect(y.ticks[0]).toEqual({ at: 0.5 / 25, text: "0" });
  expect(scale).toMatchObject({ from: -1, to: 1 });
  expect(positionCaption(table)).toMatch(/w = ⌊n \/ 4⌋ and h = n mod 4/);
  expect(similarityCaption(table)).toMatch(/scrambles/);
});

test("the similarity panel has a map for each position, and of large grids for every second", () => {
  const { raster } = similarityPlot(sineCosineTable([3, 5], 8));
  // Maps of 5 x 3, doubled, with gaps of 1: 54 x 20 pixels, 13 times as large.
  expect([raster.width / 54, raster.height / 20]).toEqual([13, 13]);
  const yellow = (row: number, column: number): number[] => {
    const at = 4 * (((row * 7 + 2 * row) * 13 + 1) * raster.width + (column * 11 + 2 * column) * 13 + 1);
    return [...raster.data.subarray(at, at + 3)];
  };
  expect([yellow(0, 0), yellow(1, 3), yellow(2, 4)]).toEqual(Array(3).fill([253, 231, 37])); // each is most like itself
  const large = similarityPlot(sineCosineTable([24, 24], 8));
  expect(large.x.ticks.map(({ text }) => text)).toEqual(["0", "4", "8", "12", "16", "20"]);
  expect(similarityCaption(sineCosineTable([24, 24], 8))).toMatch(/every second row and column/);
});

test("positions of a network: the fixed ones are recognised, others are not called sines", () => {
  using vit = new VisionTransformer({ imageSize: [16, 24], patchSize: 8, embedDim: 12, depth: 1, numHeads: 2, numClasses: 0 });
  expect(tableOf(vit.posEmbed, [2, 3])).toMatchObject({ temperature: 10000, width: 12, grid: [2, 3] });
  torch.noGrad(() => void vit.posEmbed.add_(0.5));
  const learned = tableOf(vit.posEmbed, [2, 3]);
  expect(learned.temperature).toBeNull();
  expect(positionPlot(learned)).toMatchObject({ x: { ticks: expect.anything() }, scale: { to: 1.5 } });
  expect(positionPlot(learned).x.sections).toBeUndefined();
});

test("principal components are those of a singular value decomposition", () => {
  torch.scope(() => {
    torch.manualSeed(1);
    const rows = torch.randn([40, 7], { dtype: "float64" }).mul(torch.tensor([5, 4, 3, 2, 1, 0.5, 0.1], undefined, { dtype: "float64" })).add(10);
    const { directions, coordinates, shares } = principalComponents(rows, 3);
    const centred = rows.sub(rows.mean([0], true));
    const [, values, vectors] = torch.linalgSvd(centred, false);
    const squares = [...(values.data() as Float64Array)].map((value) => value ** 2);
    const total = squares.reduce((sum, each) => sum + each, 0);
    for (let i = 0; i < 3; i++) {
      expect(shares[i]).toBeCloseTo(squares[i]! / total, 12);
      const own = directions.subarray(7 * i, 7 * i + 7);
      const other = vectors.select(0, i).contiguous().data() as Float64Array;
      expect(Math.abs(own.reduce((sum, each, j) => sum + each * other[j]!, 0))).toBeCloseTo(1, 10);
      const largest = own.reduce((most, each) => (Math.abs(each) > Math.abs(most) ? each : most), 0);
      expect(largest).toBeGreaterThan(0);
    }
    const first = centred.mm(torch.tensor(directions.slice(0, 7), [7, 1])).select(1, 0).contiguous().data() as Float64Array;
    first.forEach((value, row) => expect(coordinates[3 * row]).toBeCloseTo(value, 10));
    expect(principalComponents(torch.ones([4, 2]), 3)).toMatchObject({ count: 2, shares: [0, 0] });
  });
});

test("patches of two kinds get two colours, the same ones in both images", () => {
  torch.scope(() => {
    // Left halves of both images are one kind, right halves another.
    const features = torch.zeros([2, 8, 4]);
    for (const patch of [2, 3, 6, 7]) features.narrow(1, patch, 1).fill_(3);
    const { pictures, shares } = patchColours(features, [2, 4]);
    expect(shares[0]).toBeCloseTo(1, 10);
    const colours = pictures.map(({ data }) => Array.from({ length: 8 }, (_, i) => data[4 * i]));
    expect(colours[0]).toEqual([0, 0, 255, 255, 0, 0, 255, 255]);
    expect(colours[1]).toEqual(colours[0]);
    expect(pictures[0]).toMatchObject({ width: 4, height: 2 });
  });
});

test("the map keeps groups together, and is the same for the same seed", () => {
  const random = new RandomStream({ seed: 5, epoch: 0, index: 0, stream: 1 });
  const vectors = Array.from({ length: 40 }, (_, i) => Float32Array.from({ length: 8 }, (_, j) => (j % 2 === i % 2 ? 1 : 0) + 0.1 * random.uniform()));
  const places = embeddingLayout(vectors, 3);
  expect(embeddingLayout(vectors, 3)).toEqual(places);
  expect(embeddingLayout(vectors, 4)).not.toEqual(places);
  for (const [x, y] of places) expect(x >= 0 && x <= 1 && y >= 0 && y <= 1).toBe(true);
  const distance = (a: number, b: number): number => Math.hypot(places[a]![0] - places[b]![0], places[a]![1] - places[b]![1]);
  const nearest = places.map((_, a) => places.map((__, b) => b).filter((b) => b !== a).sort((b, c) => distance(a, b) - distance(a, c))[0]!);
  expect(nearest.filter((b, a) => b % 2 === a % 2).length).toBeGreaterThan(36);
});

test("few images are placed without UMAP", () => {
  expect(embeddingLayout([], 0)).toEqual([]);
  expect(embeddingLayout([new Float32Array(3)], 0)).toEqual([[0.5, 0.5]]);
  for (const count of [2, 4, 5, 6]) {
    const places = embeddingLayout(Array.from({ length: count }, (_, i) => Float32Array.of(i, 1, 0)), 0);
    expect(places).toHaveLength(count);
    expect(new Set(places.map(String)).size).toBe(count);
    expect(places.flat().every((each) => Number.isFinite(each))).toBe(true);
  }
});
