import { encoderState, selectPrefix, type RecognisedCheckpoint, type WhichEncoder } from "../checkpoint/index.js";
import type { Tensor } from "../torch/index.js";
import { MLPHead } from "./heads.js";

/**
 * The projector of a pre-training checkpoint, behind the encoder that has the same name in it; null where the file has none: only
 * pre-training keeps one. Its sizes are read off the tensors.
 *
 * @throws StateDictError for tensors that form no projector
 * @example
 * using read = await readEncoderFile("vit-s-300ep.pth.tar");
 * const encoder = encoderFromFile(read);
 * const projector = projectorFromFile(read); // 384 to 256
 */
export function projectorFromFile({ recognised }: { recognised: RecognisedCheckpoint }, which: WhichEncoder = "base"): MLPHead | null {
  if (recognised.kind !== "moco-v3") return null;
  const key = recognised.family === "vit" ? "head" : "fc";
  const state = selectPrefix(encoderState(recognised, which), `${key}.`);
  const shapes = [...state.values()].map(({ shape }) => shape).filter((shape) => shape.length === 2) as [number, number][];
  const [first, last] = [shapes[0], shapes.at(-1)];
  if (first === undefined || last === undefined) return null;
  const projector = new MLPHead({
    layers: shapes.length, inputDim: first[1], hiddenDim: first[0], outputDim: last[0], lastBatchNorm: endsInBatchNorm(state),
  });
  try {
    projector.loadStateDict(state);
    return projector;
  } catch (error) {
    projector.dispose();
    throw error;
  }
}

function endsInBatchNorm(state: ReadonlyMap<string, Tensor>): boolean {
  const position = (key: string): number => Number(key.split(".", 1)[0]);
  const linear = [...state].filter(([, { shape }]) => shape.length === 2).map(([key]) => position(key));
  return [...state.keys()].some((key) => key.endsWith(".running_mean") && position(key) > Math.max(...linear));
}
