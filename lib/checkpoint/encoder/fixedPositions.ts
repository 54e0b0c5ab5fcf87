import type { Tensor } from "../../torch/index.js";
import * as torch from "../../torch/index.js";

/** Of the sines and cosines; half precision keeps three digits of them. */
const TOLERANCE = 2e-3;
const TEMPERATURE = 10_000;

/**
 * The grid [rows, columns] of patches for which `positions` [1, 1 + patches, D] is MoCo v3's fixed 2-D sine-cosine table, or null where it
 * is no such table. A few rows are compared: what was learned, or comes of another formula, differs in all.
 */
export function gridOfFixedPositions(positions: Tensor): [number, number] | null {
  const { shape } = positions;
  const [one, tokens, width] = shape as [number, number, number];
  if (shape.length !== 3 || one !== 1 || tokens < 2 || width % 4 !== 0 || !/^b?float/.test(positions.dtype)) return null;
  const patches = tokens - 1;
  const probes = [...new Set([0, 1, 2, Math.floor(patches / 3), Math.floor(patches / 2), patches - 1])].filter((n) => n < patches);
  const rowOf = (token: number): number[] => torch.scope(() => Array.from(positions.select(1, token).data() as Float32Array, Number));
  if (!rowOf(0).every((value) => Math.abs(value) <= TOLERANCE)) return null;
  const found = probes.map((n) => rowOf(n + 1));
  const square = Math.sqrt(patches);
  const heights = [square, ...Array.from({ length: patches }, (_, i) => i + 1)].filter((height) => patches % height === 0);
  const height = heights.find((each) => probes.every((n, i) => isRow(found[i]!, Math.floor(n / each), n % each)));
  return height === undefined ? null : [height, patches / height];
}

/** Whether a row is sin aω | cos aω | sin bω | cos bω. */
function isRow(row: readonly number[], a: number, b: number): boolean {
  const quarter = row.length / 4;
  return row.every((value, i) => {
    const angle = (i < 2 * quarter ? a : b) * TEMPERATURE ** (-(i % quarter) / quarter);
    const expected = Math.floor(i / quarter) % 2 === 0 ? Math.sin(angle) : Math.cos(angle);
    return Math.abs(value - expected) <= TOLERANCE;
  });
}
