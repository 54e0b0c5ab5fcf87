import { RandomStream } from "../../data/index.js";
import type { Figure } from "../figure.js";
import { escapeHtml } from "../htmlPage.js";
import { embeddingLayout } from "./embeddingLayout.js";
import { nameOfImage } from "./shownImage.js";
import { thumbnailPlaces } from "./thumbnailPlaces.js";

/** An image of a map or a gallery. */
export interface MappedImage {
  name: string;
  label: string | null;
  /** A small picture of it as a data URI. */
  thumbnail: string;
}

/** Width of a thumbnail as a share of the map's, and the map's width over its height. */
const thumbnailWidth = 0.044;
const shape = 4 / 3;

const style = `.map-picture { position: absolute; transform: translate(-50%, -50%); border-radius: 2px; transition: transform .12s; cursor: zoom-in; }
.map-picture:hover, .map-picture:focus { transform: translate(-50%, -50%) scale(3); z-index: 2; outline: 1px solid var(--accent); box-shadow: 0 2px 8px #0008; }
.map-picture.left { transform-origin: 0 50%; } .map-picture.right { transform-origin: 100% 50%; }
@media (prefers-reduced-motion: reduce) { .map-picture { transition: none; } }
.map-skip { position: absolute; left: -99rem; } .map-skip:focus { position: static; }`;

/**
 * A map of images by their feature vectors, with thumbnails.
 *
 * @param options.aspect width over height of the thumbnails
 * @param options.most thumbnails; the other images are dots
 */
export function mapFigure(
  images: readonly MappedImage[], vectors: readonly Float32Array[], { seed, most, aspect }: { seed: number; most: number; aspect: number },
): Figure {
  // Room for whole thumbnails at the edges, and for enlarging them.
  const points = embeddingLayout(vectors, seed).map(([x, y]): [number, number] => [0.04 + 0.92 * x, 0.05 + 0.9 * y]);
  const order = new RandomStream({ seed, epoch: 0, index: 0, stream: 0x6d617070 }).permutation(images.length);
  const width = thumbnailWidth * Math.min(1, aspect);
  const size = [width, (width / aspect) * shape] as const;
  const { placed, rest } = thumbnailPlaces(points, order, size, most);
  const at = ([x, y]: readonly [number, number]): string => `left:${(100 * x).toFixed(2)}%;top:${(100 * y).toFixed(2)}%`;
  const dots = rest.map((point) =>
    `<span style="position:absolute;${at(points[point]!)};width:6px;height:6px;margin:-3px;border-radius:50%;background:var(--muted)" title="${
      escapeHtml(nameOfImage(images[point]!))}"></span>`);
  const pictures = [...placed].map(([point, place]) => {
    const words = escapeHtml(nameOfImage(images[point]!));
    const side = place[0] < 0.1 ? " left" : place[0] > 0.9 ? " right" : "";
    return `<img class="map-picture${side}" src="${images[point]!.thumbnail}" alt="${words}" title="${words}" tabindex="0" style="${at(place)};width:${
      (100 * size[0]).toFixed(2)}%">`;
  });
  const dotted = rest.length === 0 ? "" : ` ${placed.size} have a thumbnail, the other ${rest.length} are dots.`;
  return {
    id: "map",
    title: "Map of the embeddings",
    caption: `${images.length.toLocaleString("en")} images, placed by UMAP so that images with similar feature vectors lie near each other; the axes have no unit. ` +
      `Thumbnails are moved aside by at most their own size, so that none covers another.${dotted} Point at one, tap it or go to it with Tab to enlarge it.`,
    body: `<style>${style}</style>
<a class="map-skip" href="#map-end">Skip the map</a>
<div style="overflow-x:auto;border:1px solid var(--line);border-radius:6px"><div style="position:relative;min-width:40rem;aspect-ratio:4/3;overflow:hidden">
${dots.join("")}
${pictures.join("\n")}
</div></div><span id="map-end"></span>`,
  };
}
