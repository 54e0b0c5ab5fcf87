/** Cosine similarities of many vectors to many others, in blocks, so that memory stays bounded however many there are. */
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";

/** Elements of one block of similarities: 64 MB on the CPU; 512 MB on a GPU, which has few cores' worth of launches to hide. */
const blockElements = { cpu: 2 ** 24, gpu: 2 ** 27 };
/** Rows of queries at a time. */
const chunkRows = 1024;
/** Similarities between two turns of the event loop: some seconds of a small CPU, in which no signal is heard. */
const chunkElements = 2 ** 28;

/** Rows of length 1. `features` is [N, D] of any floating dtype; the result float32. A row of zeros stays one. */
export function normalized(features: Tensor): Tensor {
  return torch.scope(() => {
    const rows = features.to("float32");
    return rows.div(torch.linalgVectorNorm(rows, 2, [1], true).clamp(1e-12));
  });
}

/** How many gallery rows make a block with `rows` queries. */
export function blockWidth(rows: number, device: string): number {
  return Math.max(1, Math.floor(blockElements[device === "cpu" ? "cpu" : "gpu"] / rows));
}

/** The most similar gallery rows of a chunk of queries. Frees its tensors by `using`. */
export interface NearestChunk extends Disposable {
  /** Number of the chunk's first query. */
  first: number;
  /** Cosine similarities, float32 [rows, k], the largest first. */
  similarities: Tensor;
  /** Rows of the gallery, int64 [rows, k]. */
  indices: Tensor;
}

export interface NearestOptions {
  /** For each query the gallery row that is the query itself and does not count, or -1. */
  own?: Int32Array;
  /** Factors [N] that scale the gallery's rows to length 1, where they are not so already. */
  scales?: Tensor;
}

/**
 * The `k` most similar gallery rows of each query, in chunks of queries; exact. The gallery is gone through in blocks, so besides both
 * matrices only one block of similarities is in memory.
 *
 * @param queries [Q, D], rows of length 1
 * @param gallery [N, D], rows of length 1 unless there are `scales`; N is at least `k`, or one more where rows are left out. Half precision
 *   saves memory only: similarities are computed in float32, whose rounding does not make ties
 */
export function* nearestChunks(queries: Tensor, gallery: Tensor, k: number, options: NearestOptions = {}): Generator<NearestChunk, void, undefined> {
  const count = queries.size(0);
  const rows = Math.max(1, Math.min(chunkRows, Math.floor(chunkElements / gallery.size(0))));
  for (let first = 0; first < count; first += rows) {
    const { similarities, indices } = torch.noGrad(() =>
      torch.scope(() => {
        const chunk = queries.narrow(0, first, Math.min(rows, count - first)).to({ device: gallery.device, dtype: "float32" });
        return nearestRows(chunk, gallery, k, { ...options, own: options.own?.subarray(first, first + rows) });
      }),
    );
    torch.keep(similarities);
    torch.keep(indices);
    yield { first, similarities, indices, [Symbol.dispose]: () => [similarities, indices].forEach((each) => each.dispose()) };
  }
}

type Nearest = Pick<NearestChunk, "similarities" | "indices">;

function nearestRows(queries: Tensor, gallery: Tensor, k: number, { own, scales }: NearestOptions): Nearest {
  const [total, rows] = [gallery.size(0), queries.size(0)];
  const width = blockWidth(rows, gallery.device);
  let best: Nearest | null = null;
  for (let first = 0; first < total; first += width) {
    const size = Math.min(width, total - first);
    const former: Nearest | null = best;
    best = torch.scope((): Nearest => {
      const block = torch.mm(queries, gallery.narrow(0, first, size).to("float32").t()); // [rows, size]
      if (scales) block.mul_(scales.narrow(0, first, size));
      if (own) leaveOut(block, own, first);
      const [similarities, indices] = torch.topk(block, Math.min(k, size));
      indices.add_(first);
      return former === null ? { similarities, indices } : merged(former, { similarities, indices }, k);
    });
    former?.similarities.dispose();
    former?.indices.dispose();
  }
  return best!;
}

function merged(a: Nearest, b: Nearest, k: number): Nearest {
  const all = torch.cat([a.similarities, b.similarities], 1);
  const [similarities, order] = torch.topk(all, Math.min(k, all.size(1)));
  return { similarities, indices: torch.cat([a.indices, b.indices], 1).gather(1, order) };
}

/** Puts each query's own row, where it lies in this block, behind all others. */
function leaveOut(block: Tensor, own: Int32Array, first: number): void {
  const size = block.size(1);
  const places: number[] = [];
  for (let row = 0; row < own.length; row++) {
    const column = own[row]! - first;
    if (own[row]! >= 0 && column >= 0 && column < size) places.push(row * size + column);
  }
  if (places.length === 0) return;
  block.view([-1]).indexFill_(0, torch.tensor(places, undefined, { dtype: "int64", device: block.device }), -Infinity);
}
