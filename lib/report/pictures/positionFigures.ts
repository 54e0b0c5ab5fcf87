import type { Figure } from "../figure.js";
import { plotHtml } from "./plot.js";
import { positionCaption, positionPlot, similarityCaption, similarityPlot } from "./positionPlot.js";
import type { PositionTable } from "./positionTable.js";

/** A ViT's position embedding and how alike its positions are. */
export async function positionFigures(table: PositionTable): Promise<[Figure, Figure]> {
  const kind = table.temperature === null ? "Position embedding" : "2-D sine-cosine position embedding";
  return [
    { id: "position-embedding", title: kind, caption: positionCaption(table), body: await plotHtml(positionPlot(table)) },
    {
      id: "position-similarity", title: "Similarity of positions", caption: similarityCaption(table),
      body: `<div style="max-width:38rem">${await plotHtml(similarityPlot(table))}</div>`,
    },
  ];
}
