import type { Tensor } from "../../torch/index.js";
import * as torch from "../../torch/index.js";
import type { Figure } from "../figure.js";
import { escapeHtml, percent } from "../htmlPage.js";
import { principalComponents } from "./principalComponents.js";
import { enlarged, pngUri, rasterOfPlanes, tiled, type Raster } from "./raster.js";

/** What the kernels belong to. */
export interface FilterFigureOptions {
  /** What the convolution is. */
  layer: "patch projection" | "first convolution";
  /** Whether it was frozen at its random start; null where nothing tells. */
  frozen: boolean | null;
}

/** Filters that are drawn. */
const mostFilters = 64;
/** As many as in the ViT paper's figure. */
const components = 28;

/** Each filter as a colour picture: mid grey is 0, and its largest number, of either sign, is an extreme. */
export function filterPictures(filters: ArrayLike<number>, count: number, height: number, width: number): Raster[] {
  const size = 3 * height * width;
  return Array.from({ length: count }, (_, i) => {
    const own = Float64Array.from({ length: size }, (_, at) => filters[i * size + at]!);
    const most = own.reduce((largest, each) => Math.max(largest, Math.abs(each)), 0);
    return rasterOfPlanes(own.map((value) => (most > 0 ? 127.5 + (127.5 * value) / most : 127.5)), width, height);
  });
}

/**
 * The first layer's kernels as pictures, and the principal components of all of them.
 *
 * @param weight `[filters, 3, height, width]` of the convolution that sees the pixels
 */
export async function filterFigure(weight: Tensor, { layer, frozen }: FilterFigureOptions): Promise<Figure> {
  const [all, , height, width] = weight.shape as [number, number, number, number];
  const shown = Math.min(all, mostFilters);
  const values = torch.scope(() => weight.detach().to("cpu").to("float32").contiguous().data() as Float32Array);
  const sheets = [sheet(`${shown < all ? `The first ${shown} of ${all}` : `All ${all}`} filters, ${height} × ${width} pixels each`,
    await sheetUri(filterPictures(values, shown, height, width), 16), `${shown} filters of the ${layer}`)];
  if (layer === "patch projection") {
    const { directions, shares, count } = torch.scope(() => principalComponents(weight.detach().flatten(1), components));
    const most = Math.min(count, components);
    const share = shares.slice(0, most).reduce((sum, each) => sum + each, 0);
    sheets.push(sheet(`The first ${most} principal components of all ${all} filters (${percent(share)} of their variance)`,
      await sheetUri(filterPictures(directions, most, height, width), 7), `${most} principal components of the filters`, "24rem"));
  }
  const state = frozen === true ? " This projection was frozen at its random start (stop-grad-conv1), so it looks like noise: that is as it should be."
    : frozen === false && layer === "patch projection" ? " A trained projection shows smooth colours and edges, a random one noise." : "";
  return {
    id: "filters",
    title: layer === "patch projection" ? "Patch-embedding filters" : "Filters of the first convolution",
    caption: `What each output of the ${layer} looks for in the red, green and blue of the image. Mid grey is a weight of 0; each filter is scaled by its ` +
      `own largest weight.${state}`,
    body: sheets.join("\n"),
  };
}

async function sheetUri(pictures: readonly Raster[], columns: number): Promise<string> {
  const narrow = Math.min(columns, pictures.length);
  const plain = tiled(pictures.map((picture) => enlarged(picture, Math.max(1, Math.ceil(40 / picture.width)))), narrow, 4);
  return pngUri(plain);
}

function sheet(words: string, src: string, alt: string, width = "46rem"): string {
  return `<figure style="margin:.6rem 0 1.2rem;max-width:${width}"><figcaption style="font-size:.85rem;color:var(--muted)">${escapeHtml(words)}</figcaption>
<img src="${src}" alt="${escapeHtml(alt)}" style="display:block;width:100%;height:auto;margin-top:.3rem"></figure>`;
}
