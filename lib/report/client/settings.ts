import type { Axis } from "../run/chartTable.js";
import type { Palette } from "./palette.js";

/** What all charts of the page have in common. */
export interface Settings {
  axis: Axis;
  smooth: boolean;
  /** Whether events are marked. */
  marks: boolean;
  /** Part of the horizontal axis that is shown; null for all of it. */
  zoom: { min: number; max: number } | null;
  /** Runs that are not shown. */
  hiddenRuns: Set<number>;
  palette: Palette;
}
