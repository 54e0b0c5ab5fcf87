import type { Figure } from "../figure.js";
import { escapeHtml, percent } from "../htmlPage.js";
import type { MappedImage } from "./mapFigure.js";
import { nameOfImage } from "./shownImage.js";
import { tileGrid } from "./tiles.js";

/** The images nearest to one, the nearest first, by their numbers among all; with the cosine similarity. */
export type NeighbourList = readonly { image: number; similarity: number }[];

export interface NeighbourQuery {
  query: number;
  random: NeighbourList;
  trained: NeighbourList;
}

/** Share of an encoder's neighbours that are of the query's class, over all images. */
export interface SameClassShares {
  random: number;
  trained: number;
  neighbours: number;
}

/** Nearest neighbours of some images, with random weights and with trained ones. */
export function neighbourFigure(images: readonly MappedImage[], queries: readonly NeighbourQuery[], same: SameClassShares | null): Figure {
  const rows = queries.map(({ query, random, trained }) => {
    const asked = images[query]!;
    const block = (title: string, list: NeighbourList): string => {
      const tiles = list.map(({ image, similarity }) => ({
        src: images[image]!.thumbnail, alt: nameOfImage(images[image]!), caption: similarity.toFixed(2).replace("-", "−"),
        framed: asked.label !== null && images[image]!.label === asked.label,
      }));
      return `<div style="flex:1 1 17rem;min-width:0"><div style="font-size:.8rem;color:var(--muted)">${title}</div>${tileGrid(tiles, tiles.length)}</div>`;
    };
    const words = escapeHtml(nameOfImage(asked));
    return `<div style="display:flex;flex-wrap:wrap;gap:.6rem 1.4rem;padding:.7rem 0;border-top:1px solid var(--line)">
<figure style="margin:0;flex:0 0 5rem"><div style="font-size:.8rem;color:var(--muted)">image</div><img src="${asked.thumbnail}" alt="${words}" title="${words}"
 style="display:block;width:100%;height:auto;border-radius:4px"></figure>
${block("nearest, random weights", random)}
${block("nearest, trained weights", trained)}</div>`;
  });
  const classes = same === null ? ""
    : ` Framed are images of the same class: ${percent(same.random)} of the ${same.neighbours} nearest with random weights, ${percent(same.trained)} with trained ones, over all images.`;
  return {
    id: "neighbours",
    title: "Nearest neighbours, random against trained",
    caption: `The nearest of ${images.length.toLocaleString("en")} images by the cosine similarity of their feature vectors (below each; 1 is the same direction), ` +
      `with the random weights that such a network begins with and with the trained ones.${classes}`,
    body: rows.join("\n"),
  };
}
