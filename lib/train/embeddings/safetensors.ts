import { CheckpointError, disposeTensors, readCheckpoint, writeDurably } from "../../checkpoint/index.js";
import { safetensorsHeader } from "../../checkpoint/safetensors/writeSafetensors.js";
import * as torch from "../../torch/index.js";
import { Tensor } from "../../torch/index.js";
import { checkedEmbeddings, EmbeddingFileError, requireDimensions, type EmbeddingRows, type Embeddings } from "./embeddings.js";

const FEATURES = "embeddings";
const NAMES = "names";
const NAME_ENDS = "name_ends";

/**
 * Writes the tensors `embeddings`, float32 [N, D]; `names`, all names' UTF-8 bytes one behind another; and `name_ends`, int64 [N], where in
 * `names` each one ends. Names are tensors because a header holds at most 100 MB.
 *
 * In Python: `bytes(t["names"][a:b].tolist()).decode()` for each begin `a` and end `b`.
 */
export async function writeSafetensors(path: string, rows: EmbeddingRows): Promise<void> {
  const { count, dim } = rows;
  let nameBytes = 0;
  for await (const { names } of rows.chunks()) for (const name of names) nameBytes += Buffer.byteLength(name);
  await writeDurably(path, async (sink) => {
    // In the order of falling alignment, as the reference implementation writes.
    await sink.write(safetensorsHeader([
      { name: NAME_ENDS, type: "I64", shape: [count], bytes: 8 * count },
      { name: FEATURES, type: "F32", shape: [count, dim], bytes: 4 * count * dim },
      { name: NAMES, type: "U8", shape: [nameBytes], bytes: nameBytes },
    ], { format: "pt" }, { file: path }));
    let end = 0n;
    for await (const { names } of rows.chunks()) {
      const ends = BigInt64Array.from(names, (name) => (end += BigInt(Buffer.byteLength(name))));
      await sink.write(new Uint8Array(ends.buffer));
    }
    for await (const { features } of rows.chunks()) {
      await sink.write(new Uint8Array(features.buffer, features.byteOffset, features.byteLength));
    }
    for await (const { names } of rows.chunks()) await sink.write(Buffer.from(names.join(""), "utf8"));
  });
}

/** Reads a file of the three tensors that `writeSafetensors` writes. */
export async function readSafetensors(path: string): Promise<Embeddings> {
  let value: unknown;
  try {
    value = await readCheckpoint<unknown>(path);
  } catch (error) {
    if (error instanceof CheckpointError) throw new EmbeddingFileError(path, error.reason, { cause: error });
    throw error;
  }
  try {
    const [features, bytes, ends] = [FEATURES, NAMES, NAME_ENDS].map((key) => tensorNamed(path, value, key)) as [Tensor, Tensor, Tensor];
    const [count, dim] = features.shape as [number, number];
    if (features.shape.length !== 2 || !["float32", "float16", "bfloat16", "float64"].includes(features.dtype)) {
      throw new EmbeddingFileError(path, `${FEATURES} is ${features.dtype} [${features.shape.join(", ")}]; expected float32 [N, D]`);
    }
    requireDimensions(path, dim);
    if (ends.dtype !== "int64" || String(ends.shape) !== String([count]) || bytes.dtype !== "uint8" || bytes.shape.length !== 1) {
      throw new EmbeddingFileError(path, `${NAMES} and ${NAME_ENDS} are not uint8 and int64 [${count}], one end for each row; embed again`);
    }
    const names = namesOf(path, bytes.data() as Uint8Array, ends.data() as BigInt64Array);
    return checkedEmbeddings(path, names, torch.keep(features.to("float32").clone()));
  } finally {
    disposeTensors(value);
  }
}

function tensorNamed(path: string, value: unknown, key: string): Tensor {
  const found: unknown = value instanceof Map ? (value as Map<unknown, unknown>).get(key) : undefined;
  if (found instanceof Tensor) return found;
  throw new EmbeddingFileError(path, `it has no tensor ${key}; expected ${FEATURES}, ${NAMES} and ${NAME_ENDS}, as moco embed writes them`);
}

function namesOf(path: string, bytes: Uint8Array, ends: BigInt64Array): string[] {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let begin = 0;
  const names = Array.from(ends, (each) => {
    const end = Number(each);
    if (end < begin || end > text.length) throw new EmbeddingFileError(path, `${NAME_ENDS} says ${end} after ${begin}, of ${text.length} bytes; the file is damaged`);
    const name = text.toString("utf8", begin, end);
    begin = end;
    return name;
  });
  if (begin !== text.length) throw new EmbeddingFileError(path, `${NAMES} has ${text.length - begin} bytes that belong to no row; the file is damaged`);
  return names;
}
