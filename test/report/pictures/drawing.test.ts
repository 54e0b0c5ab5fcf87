/** Colours, pixels and files of the pictures' building blocks. */
import { expect, test } from "@jest/globals";
import sharp from "sharp";
import { overlaid } from "../../../lib/report/pictures/attentionFigure.js";
import { barNumbers, colourBar } from "../../../lib/report/pictures/colourBar.js";
import { colourOf, magnitudes, scaleText, signed } from "../../../lib/report/pictures/colourScale.js";
import { filterPictures } from "../../../lib/report/pictures/filterFigure.js";
import { tickStep } from "../../../lib/report/pictures/plot.js";
import { enlarged, pngUri, rasterOf, rasterOfPlanes, tiled } from "../../../lib/report/pictures/raster.js";
import { thumbnailPlaces } from "../../../lib/report/pictures/thumbnailPlaces.js";

const pixel = ({ data, width }: { data: Uint8Array; width: number }, x: number, y: number): number[] => [...data.subarray(4 * (y * width + x), 4 * (y * width + x) + 4)];

test("viridis ends dark and bright and grows lighter all the way; 0 of a signed scale is all but white", () => {
  const scale = magnitudes(0, 1, "");
  expect(colourOf(scale, 0)).toEqual([68, 1, 84]);
  expect(colourOf(scale, 1)).toEqual([253, 231, 37]);
  expect(colourOf(scale, 0.5)).toEqual([33, 145, 140].map((each, i) => (i === 2 ? 141 : each)));
  const light = Array.from({ length: 101 }, (_, i) => colourOf(scale, i / 100)).map(([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b);
  expect(light.every((each, i) => i === 0 || each > light[i - 1]! - 0.5)).toBe(true);
  expect(colourOf(signed(2, ""), 0)).toEqual([242, 239, 238]);
  expect(colourOf(signed(2, ""), -9)).toEqual([19, 75, 133]);
  expect(colourOf(signed(2, ""), 2)).toEqual([140, 13, 37]);
  expect(colourOf(scale, NaN)).toEqual([128, 128, 128]);
  expect(colourOf(magnitudes(3, 3, ""), 3)).toEqual(colourOf(scale, 0.5));
});

test("bars tell both ends and the middle, in few digits", () => {
  expect(barNumbers(signed(1, ""))).toEqual(["−1", "0", "1"]);
  expect([0.6, 0.000012, 1234.5, -0.25].map(scaleText)).toEqual(["0.6", "1.2e−5", "1235", "−0.25"]);
  expect(colourBar(magnitudes(0, 4, "a < b"))).toContain("a &#60; b");
  expect([[14, 10], [197, 6], [384, 5], [3, 6], [1, 5]].map(([length, wanted]) => tickStep(length!, wanted!))).toEqual([2, 50, 100, 1, 1]);
});

test("rasters are enlarged, put side by side and written without loss", async () => {
  const raster = rasterOf([0, 1, 2, 3, 4, 5], 3, 2, (value) => [value * 10, 0, 255]);
  const large = enlarged(raster, 2, 3);
  expect([large.width, large.height, pixel(large, 5, 5), pixel(large, 1, 2)]).toEqual([6, 6, [50, 0, 255, 255], [0, 0, 255, 255]]);
  const sheet = tiled([raster, raster, raster], 2, 1);
  expect([sheet.width, sheet.height]).toEqual([7, 5]);
  expect([pixel(sheet, 3, 0), pixel(sheet, 4, 0), pixel(sheet, 6, 4), pixel(sheet, 2, 4)]).toEqual([[0, 0, 0, 0], [0, 0, 255, 255], [0, 0, 0, 0], [50, 0, 255, 255]]);
  const { data, info } = await sharp(Buffer.from((await pngUri(sheet)).split(",")[1]!, "base64")).raw().toBuffer({ resolveWithObject: true });
  expect(info).toMatchObject({ width: 7, height: 5, channels: 4 });
  expect(data.equals(sheet.data)).toBe(true);
});

test("a filter's largest weight is an extreme, and 0 is mid grey", () => {
  const [picture, flat] = filterPictures([0, -2, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, ...Array<number>(12).fill(0)], 2, 2, 2);
  // Planes of red [0 -2 / 1 0], green [2 0 / 0 0], blue 0.
  expect([pixel(picture!, 0, 0), pixel(picture!, 1, 0), pixel(picture!, 0, 1)]).toEqual([[128, 255, 128, 255], [0, 128, 128, 255], [191, 128, 128, 255]]);
  expect(new Set(flat!.data)).toEqual(new Set([128, 255]));
});

test("attention lies over its own patch, on a grey image", () => {
  const image = rasterOfPlanes([...Array<number>(64).fill(255), ...Array<number>(128).fill(0)], 8, 8); // red
  const map = rasterOf([0, 1], 2, 1, (value) => (value > 0 ? [255, 255, 0] : [0, 0, 0]));
  const over = overlaid(image, map);
  expect([over.width, over.height]).toEqual([112, 112]);
  const grey = 0.38 * 0.299 * 255;
  expect(pixel(over, 55, 60)).toEqual([Math.round(grey), Math.round(grey), Math.round(grey), 255]);
  expect(pixel(over, 56, 60)).toEqual([Math.round(grey + 0.62 * 255), Math.round(grey + 0.62 * 255), Math.round(grey), 255]);
});

test("thumbnails do not cover each other, stay inside and near their points", () => {
  const points = Array.from({ length: 200 }, (_, i): [number, number] => [0.5 + 0.5 * Math.sin(i * i), 0.5 + 0.5 * Math.cos(3 * i)]);
  const [width, height] = [0.05, 0.07];
  const { placed, rest } = thumbnailPlaces(points, points.map((_, i) => i), [width, height], 120);
  expect(placed.size + rest.length).toBe(200);
  expect(placed.size).toBeLessThanOrEqual(120);
  const places = [...placed];
  for (const [i, [point, [x, y]]] of places.entries()) {
    expect(x - width / 2 >= 0 && x + width / 2 <= 1 && y - height / 2 >= 0 && y + height / 2 <= 1).toBe(true);
    expect(Math.abs(x - points[point]![0])).toBeLessThanOrEqual(1.6 * width);
    for (const [, [otherX, otherY]] of places.slice(i + 1)) {
      expect(Math.abs(x - otherX) > 0.99 * width || Math.abs(y - otherY) > 0.99 * height).toBe(true);
    }
  }
});
