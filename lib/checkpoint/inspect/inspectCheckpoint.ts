import * as torch from "../../torch/index.js";
import type { DType, Tensor } from "../../torch/index.js";
import { disposeTensors } from "../dispose.js";
import { ConvertError } from "../encoder/convertError.js";
import { recogniseCheckpoint, type RecognisedCheckpoint } from "../encoder/recognise.js";
import { withBackbone } from "./backbone.js";
import { listContents, type TensorEntry } from "./entries.js";
import { readForInspection, type FileContents, type FileFormat } from "./readForInspection.js";
import { statisticsOf, type Statistics } from "./statistics.js";
import { findWarnings, type Warning } from "./warnings.js";

/** A tensor of a checkpoint. */
export interface InspectedTensor extends Statistics {
  /** The state dict's own key, or for tensors elsewhere the path to them: `optimizer.state.0.exp_avg`. */
  key: string;
  group: TensorEntry["group"];
  dtype: DType;
  shape: number[];
}

/** What a checkpoint is; the facts of `RecognisedCheckpoint` and those of the file. */
export interface Inspection extends Omit<RecognisedCheckpoint, "state"> {
  /** The file that was read, also where a folder was given. */
  file: string;
  format: FileFormat;
  fileBytes: number;
  /** Steps done of `epoch`, in checkpoints of ours; null in others. */
  step: number | null;
  /** Of a linear probe: best top-1 accuracy so far, in per cent. */
  bestAccuracy: number | null;
  /** Elements of the model's tensors, without batch normalisations' statistics; each shared tensor once. */
  parameters: number;
  /** The same of the encoder alone; null where none was recognised. */
  encoderParameters: number | null;
  /** In the file's order. */
  tensors: InspectedTensor[];
  warnings: Warning[];
  /** Why everything else here refuses the file, which was read with inert placeholders; null for one that is not refused. */
  refusal: string | null;
}

/**
 * Says what a checkpoint is, what its tensors are like, and what to mind when using it. Reads any file that can be read at all; nothing in
 * it is run.
 *
 * @param path a checkpoint of any format, or a folder of Hugging Face
 * @throws CheckpointError for a file that is damaged
 * @example
 * const { kind, arch, warnings } = await inspectCheckpoint("checkpoint_0099.pth.tar");
 */
export async function inspectCheckpoint(path: string): Promise<Inspection> {
  const contents = await readForInspection(path);
  try {
    return inspectContents(contents);
  } finally {
    disposeTensors(contents.value);
  }
}

function inspectContents({ file, format, fileBytes, value, config, refusal }: FileContents): Inspection {
  const recognised = torch.scope(() => recogniseCheckpoint(value, config));
  const { state, ...facts } = recognised;
  const contents = listContents(value, state);
  const tensors = contents.tensors.map((entry) => ({ ...entry, ...statisticsOf(entry.tensor) }));
  const named = /asks for (\S+?),? which/.exec(refusal?.reason ?? "")?.[1];
  const globals = new Set([...contents.unknownGlobals, ...(named === undefined || named.startsWith('"') ? [] : [named])]);
  const topLevel = topLevelOf(value);
  return {
    file, format, fileBytes,
    ...facts,
    step: numberOrNull(topLevelOf(topLevel.get("moco_v3_run")).get("step")),
    bestAccuracy: facts.kind === "linear-probe" ? numberOrNull(topLevel.get("best_acc1")) : null,
    parameters: countParameters(state),
    encoderParameters: encoderParameters(recognised),
    tensors: tensors.map(({ tensor, key, group, ...statistics }) => ({
      key, group, dtype: tensor.dtype, shape: tensor.shape, ...statistics,
    })),
    warnings: findWarnings({
      recognised, tensors, topLevel: new Set(topLevel.keys()), unknownGlobals: [...globals], refused: refusal !== null,
    }),
    refusal: refusal?.message ?? null,
  };
}

function topLevelOf(value: unknown): Map<string, unknown> {
  if (value instanceof Map) return new Map(Array.from(value, ([key, each]) => [String(key), each]));
  return new Map(typeof value === "object" && value !== null && !Array.isArray(value) ? Object.entries(value) : []);
}

function numberOrNull(value: unknown): number | null {
  if (value instanceof torch.Tensor) return value.numel() === 1 ? Number(value.item()) : null;
  return typeof value === "number" ? value : null;
}

function countParameters(state: ReadonlyMap<string, Tensor>): number {
  const parameters = new Set([...state].filter(([key]) => !/(^|\.)(running_(mean|var)|num_batches_tracked)$/.test(key)).map(([, tensor]) => tensor));
  return [...parameters].reduce((sum, tensor) => sum + tensor.numel(), 0);
}

function encoderParameters(recognised: RecognisedCheckpoint): number | null {
  if (recognised.family === null) return null;
  try {
    return withBackbone(recognised, countParameters);
  } catch (error) {
    if (!(error instanceof ConvertError)) throw error;
    return null; // parts are missing, or of another kind of encoder; the facts beside it say what is there
  }
}
