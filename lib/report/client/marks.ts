import type uPlot from "uplot";
import { placeOf } from "../run/chartTable.js";
import type { RunSeries } from "../run/pageData.js";
import type { Settings } from "./settings.js";

/** Pixels from one mark to the next of its kind. */
const leastApart = 5;

/** Draws what happened in the runs: lines for resumptions, triangles on top for warnings and spikes, ticks below for checkpoints and bad images. */
export function drawMarks(plot: uPlot, runs: readonly RunSeries[], { axis, hiddenRuns, palette }: Settings): void {
  const { ctx, bbox: { left, top, width, height } } = plot;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top - 8 * ratio, width, height + 8 * ratio);
  ctx.clip();
  runs.forEach((run, i) => {
    if (hiddenRuns.has(i)) return;
    const drawn: Record<string, number> = {};
    for (const { kind, step } of run.marks) {
      const x = Math.round(plot.valToPos(placeOf(run, step, axis), "x", true));
      if (x < left - 1 || x > left + width + 1) continue;
      // Where there are many of a kind, some stand for all.
      if (x - (drawn[kind] ?? -Infinity) < leastApart * ratio) continue;
      drawn[kind] = x;
      if (kind === "resumed") {
        ctx.strokeStyle = palette.accent2;
        ctx.lineWidth = ratio;
        ctx.setLineDash([4 * ratio, 3 * ratio]);
        stroke(ctx, x, top, top + height);
        ctx.setLineDash([]);
      } else if (kind === "checkpoint" || kind === "bad-image") {
        ctx.strokeStyle = kind === "checkpoint" ? palette.good : palette.bad;
        ctx.lineWidth = 2 * ratio;
        stroke(ctx, x, top + height - (kind === "checkpoint" ? 6 : 12) * ratio, top + height);
      } else {
        ctx.fillStyle = kind === "warning" ? palette.warn : palette.bad;
        ctx.beginPath();
        ctx.moveTo(x - 4 * ratio, top - 7 * ratio);
        ctx.lineTo(x + 4 * ratio, top - 7 * ratio);
        ctx.lineTo(x, top);
        ctx.fill();
      }
    }
  });
  ctx.restore();
}

function stroke(ctx: CanvasRenderingContext2D, x: number, from: number, to: number): void {
  ctx.beginPath();
  ctx.moveTo(x, from);
  ctx.lineTo(x, to);
  ctx.stroke();
}
