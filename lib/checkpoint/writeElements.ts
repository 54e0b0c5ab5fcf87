import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { piecesOf } from "./byteSource.js";
import type { ByteSink } from "./files/durableFile.js";
import { sharedParts } from "./tensorStorage.js";

/** Bytes handed to the sink at a time. */
const WRITE_CHUNK = 64 * 2 ** 20;

/**
 * Writes a tensor's elements in C order: from its own memory where they lie so on the CPU, else from a copy that is freed at once, as
 * all that `make` makes is.
 */
export async function writeElements(sink: ByteSink, make: () => Tensor, itemSize: number): Promise<void> {
  using scope = torch.openScope();
  const bytes = scope.run(() => torch.noGrad(() => {
    const tensor = make();
    if (tensor.numel() === 0) return [];
    const plain = torch.resolveNeg(torch.resolveConj(tensor.detach())) as Tensor;
    return sharedParts((plain.to("cpu").contiguous() as Tensor).view([-1]), itemSize);
  }));
  for (const piece of piecesOf(bytes, WRITE_CHUNK)) await sink.write(piece);
}
