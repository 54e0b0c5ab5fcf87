import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";

/** Elements that are looked at together: as float64 they fill 4 MiB, which stays in the processor's cache. */
const PIECE_ELEMENTS = 2 ** 19;

/**
 * Cuts tensors of one shape into the same pieces, so that work on huge ones takes little memory, whatever their strides. Pieces are views
 * and are freed after each visit. Tensors without elements are not visited.
 */
export function forEachPiece(tensors: readonly Tensor[], visit: (pieces: Tensor[]) => void, limit = PIECE_ELEMENTS): void {
  const cut = (group: Tensor[]): void => {
    const [first] = group as [Tensor, ...Tensor[]];
    const elements = first.numel();
    if (elements === 0) return;
    if (elements <= limit) return visit(group);
    const rows = first.size(0);
    const rowElements = elements / rows;
    if (rowElements > limit) {
      for (let i = 0; i < rows; i++) torch.scope(() => cut(group.map((tensor) => tensor.select(0, i))));
      return;
    }
    const step = Math.floor(limit / rowElements);
    for (let start = 0; start < rows; start += step) {
      torch.scope(() => visit(group.map((tensor) => tensor.narrow(0, start, Math.min(step, rows - start)))));
    }
  };
  torch.scope(() => cut(tensors.map((tensor) => tensor.detach())));
}

/** A piece's elements as a vector of float64. */
export function asFloat64(piece: Tensor): Tensor {
  return piece.to("float64").reshape([-1]);
}
