import { dtypes as dtypeFacts, type DType, type Tensor } from "../../torch/index.js";
import { disposeTensors } from "../dispose.js";
import { recogniseCheckpoint, type CheckpointKind, type RecognisedCheckpoint } from "../encoder/recognise.js";
import { withBackbone } from "./backbone.js";
import { compareTensors, type TensorDifference, type Tolerance } from "./compareTensors.js";
import { listContents } from "./entries.js";
import { readForInspection } from "./readForInspection.js";

/** What of two checkpoints is compared. */
export interface CompareOptions extends Partial<Tolerance> {
  /** Compare the encoders alone, under our names, whatever the files are: a checkpoint with its conversion. */
  encoder?: boolean;
  /** Compare the model's tensors alone, without optimiser and plain values. */
  modelOnly?: boolean;
  /** Compare the tensors whose keys it accepts, and nothing else. */
  accepts?: (key: string) => boolean;
}

/** How two checkpoints differ. */
export interface Comparison {
  a: { file: string; kind: CheckpointKind };
  b: { file: string; kind: CheckpointKind };
  /** No difference of any kind below; notes do not count. */
  equal: boolean;
  /** Tensors that both have. */
  common: number;
  /** Those of them that are equal. */
  equalTensors: number;
  /** Keys that only the first has. */
  missing: string[];
  /** Keys that only the second has. */
  extra: string[];
  shapes: { key: string; a: number[]; b: number[] }[];
  dtypes: { key: string; a: DType; b: DType }[];
  /** Tensors with differing values, in the first file's order. */
  values: ({ key: string } & TensorDifference)[];
  /** The one of them with the largest difference, whole numbers aside unless there are no others; null where there is none. */
  largest: { key: string; maxAbsolute: number } | null;
  /** Differing plain values (epoch, learning rate, ...), as text; null where there is none. */
  fields: { key: string; a: string | null; b: string | null }[];
  /** Number of plain values compared. */
  commonFields: number;
  /** The tensors that both have come in another order. */
  order: boolean;
  notes: string[];
}

/**
 * Compares two checkpoints, tensor by tensor and value by value. Formats do not matter, nor does `module.` before one side's keys.
 *
 * @throws CheckpointError for a file that cannot be read; ConvertError where `encoder` is asked for and there is none
 */
export async function compareCheckpoints(pathA: string, pathB: string, options: CompareOptions = {}): Promise<Comparison> {
  const a = await readForInspection(pathA);
  try {
    const b = await readForInspection(pathB);
    try {
      const [left, right] = [recogniseCheckpoint(a.value, a.config), recogniseCheckpoint(b.value, b.config)];
      const comparison = emptyComparison({ file: a.file, kind: left.kind }, { file: b.file, kind: right.kind });
      if (options.encoder) {
        if (left.numHeads !== right.numHeads && left.numHeads !== null && right.numHeads !== null) {
          comparison.notes.push(`a has ${left.numHeads} attention heads and b ${right.numHeads}: the same tensors give other features`);
        }
        withBackbone(left, (tensorsA) => withBackbone(right, (tensorsB) => {
          compareSides(comparison, { tensors: tensorsA, fields: new Map() }, { tensors: tensorsB, fields: new Map() }, options);
        }));
      } else {
        if (left.prefix !== right.prefix) {
          const file = left.prefix === "" ? b.file : a.file;
          comparison.notes.push(`the keys of ${file} begin with "${left.prefix || right.prefix}"; compared without it`);
        }
        compareSides(comparison, wholeSide(a.value, left, right, options), wholeSide(b.value, right, left, options), options);
      }
      return comparison;
    } finally {
      disposeTensors(b.value);
    }
  } finally {
    disposeTensors(a.value);
  }
}

interface Side {
  tensors: ReadonlyMap<string, Tensor>;
  fields: ReadonlyMap<string, string>;
}

function wholeSide(value: unknown, own: RecognisedCheckpoint, other: RecognisedCheckpoint, { modelOnly, accepts }: CompareOptions): Side {
  const { tensors, fields } = listContents(value, own.state);
  const prefix = own.prefix === other.prefix ? "" : own.prefix;
  const named = tensors
    .filter(({ group }) => group === "model" || !modelOnly)
    .map(({ key, group, tensor }) => [group === "model" && key.startsWith(prefix) ? key.slice(prefix.length) : key, tensor] as const);
  return { tensors: new Map(named), fields: modelOnly || accepts ? new Map() : fields };
}

function emptyComparison(a: Comparison["a"], b: Comparison["b"]): Comparison {
  return {
    a, b, equal: false, common: 0, equalTensors: 0, missing: [], extra: [], shapes: [], dtypes: [], values: [], largest: null, fields: [], commonFields: 0,
    order: false, notes: [],
  };
}

function compareSides(result: Comparison, a: Side, b: Side, { atol = 0, rtol = 0, accepts = () => true }: CompareOptions): void {
  const keysOf = (side: Side, other: Side): string[] => [...side.tensors.keys()].filter((key) => accepts(key) && other.tensors.has(key));
  result.missing = [...a.tensors.keys()].filter((key) => accepts(key) && !b.tensors.has(key));
  result.extra = [...b.tensors.keys()].filter((key) => accepts(key) && !a.tensors.has(key));
  const common = keysOf(a, b);
  const orderB = keysOf(b, a);
  result.common = common.length;
  result.order = common.some((key, i) => key !== orderB[i]);
  for (const key of common) {
    const [left, right] = [a.tensors.get(key), b.tensors.get(key)] as [Tensor, Tensor];
    if (String(left.shape) !== String(right.shape)) {
      result.shapes.push({ key, a: left.shape, b: right.shape });
      continue;
    }
    if (left.dtype !== right.dtype) result.dtypes.push({ key, a: left.dtype, b: right.dtype });
    const difference = compareTensors(left, right, { atol, rtol });
    if (difference.different > 0) result.values.push({ key, ...difference });
    else if (left.dtype === right.dtype) result.equalTensors++;
  }
  // A count of batches differs by more than any weight does, and says less.
  const weights = result.values.filter(({ key }) => dtypeFacts[a.tensors.get(key)!.dtype].kind !== "int");
  for (const { key, maxAbsolute } of weights.length > 0 ? weights : result.values) {
    if (result.largest === null || maxAbsolute > result.largest.maxAbsolute) result.largest = { key, maxAbsolute };
  }
  for (const key of new Set([...a.fields.keys(), ...b.fields.keys()])) {
    const [left, right] = [a.fields.get(key) ?? null, b.fields.get(key) ?? null];
    if (left !== null && right !== null) result.commonFields++;
    if (left !== right) result.fields.push({ key, a: left, b: right });
  }
  const { missing, extra, shapes, dtypes, values, fields } = result;
  result.equal = !result.order && [missing, extra, shapes, dtypes, values, fields].every((list) => list.length === 0);
}
