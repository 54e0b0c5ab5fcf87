import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import type { Figure } from "../figure.js";
import { percent } from "../htmlPage.js";
import { principalComponents } from "./principalComponents.js";
import { pngUri, rasterOfPlanes, type Raster } from "./raster.js";
import { nameOfImage, shownUri, type ShownImage } from "./shownImage.js";
import { tileHtml } from "./tiles.js";

/** Of a component's values, these shares at both ends get the extreme colours, so that a few odd patches do not dull all others. */
const clipped = 0.02;

/** The first three principal components of patches, shared by all images, as red, green and blue. */
export function patchColours(features: Tensor, grid: readonly [number, number]): { pictures: Raster[]; shares: number[] } {
  const [images, patches, dim] = features.shape as [number, number, number];
  const { coordinates, shares, count } = torch.scope(() => principalComponents(features.reshape([images * patches, dim]), 3));
  const planes = Array.from({ length: 3 }, (_, component) =>
    component < count ? brightness(Float64Array.from({ length: images * patches }, (_, row) => coordinates[row * count + component]!))
    : new Float64Array(images * patches).fill(127.5));
  const pictures = Array.from({ length: images }, (_, image) => {
    const own = new Float64Array(3 * patches);
    planes.forEach((plane, channel) => own.set(plane.subarray(image * patches, (image + 1) * patches), channel * patches));
    return rasterOfPlanes(own, grid[1], grid[0]);
  });
  return { pictures, shares };
}

/** Numbers as 0 to 255, between their outer percentiles. */
function brightness(values: Float64Array): Float64Array {
  const sorted = Float64Array.from(values).sort();
  const [low, high] = [clipped, 1 - clipped].map((share) => sorted[Math.round(share * (sorted.length - 1))]!) as [number, number];
  return values.map((value) => (high > low ? (255 * (value - low)) / (high - low) : 127.5));
}

/** @param features the normalised patch tokens `[images, patches, dim]` of the images */
export async function patchColoursFigure(images: readonly ShownImage[], features: Tensor, grid: readonly [number, number]): Promise<Figure> {
  const { pictures, shares } = patchColours(features, grid);
  const pairs = await Promise.all(images.map(async (image, i) => {
    const original = tileHtml({ src: await shownUri(image.picture), alt: nameOfImage(image), caption: "" });
    const coloured = tileHtml({ src: await pngUri(pictures[i]!), alt: `patch features of ${image.name} as colours`, caption: nameOfImage(image), pixelated: true });
    return `<div>${original}${coloured}</div>`;
  }));
  const said = shares.map((share) => percent(share).replace(" ", "\u00a0"));
  return {
    id: "patch-colours",
    title: "Patch features as colours",
    caption: "Below each image, every patch has the colour of its feature vector: red, green and blue are the first three principal components of all " +
      `patches of these images together (${said.join(", ")} of their variance). Parts of the same colour are alike to the network, also across images.`,
    body: `<div style="display:grid;grid-template-columns:repeat(auto-fill,minmax(6.2rem,1fr));gap:.8rem .6rem">${pairs.join("\n")}</div>`,
  };
}
