import { parquetMetadataAsync, parquetReadObjects, type AsyncBuffer, type FileMetaData, type SchemaElement } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { ByteWriter, ParquetWriter } from "hyparquet-writer";
import { writeDurably } from "../../checkpoint/index.js";
import { withParquetFile } from "../../data/shards/parquetFile.js";
import { checkPages } from "../../data/shards/parquetPages.js";
import { ShardError } from "../../data/shards/shardError.js";
import {
  checkedEmbeddings, EmbeddingFileError, FeatureRows, inChunksOf, requireDimensions, type EmbeddingRows, type Embeddings,
} from "./embeddings.js";

/** Values in a row group. A value takes some ten times its size while its group is written. */
const GROUP_VALUES = 2 ** 20;
/** Bytes of a column in a row group, which is in memory at once, as numbers in arrays. */
const LARGEST_CHUNK = 2 ** 30;
/** How many times larger than the file its features may be: compression takes little from them, repeated rows aside. */
const MOST_EXPANSION = 64;

/** Column `file`, strings, and column `embedding`, lists of float32, under the names of the lists' parts that the format prescribes. */
const schema: SchemaElement[] = [
  { name: "root", num_children: 2 },
  { name: "file", type: "BYTE_ARRAY", converted_type: "UTF8", repetition_type: "REQUIRED" },
  { name: "embedding", converted_type: "LIST", repetition_type: "REQUIRED", num_children: 1 },
  { name: "list", repetition_type: "REPEATED", num_children: 1 },
  { name: "element", type: "FLOAT", repetition_type: "REQUIRED" },
];

/** Writes the columns `file` and `embedding`. */
export async function writeParquet(path: string, rows: EmbeddingRows): Promise<void> {
  const groupRows = Math.max(1, Math.floor(GROUP_VALUES / Math.max(1, rows.dim)));
  await writeDurably(path, async (sink) => {
    const writer = new ByteWriter();
    const flush = async (): Promise<void> => {
      const bytes = writer.getBytes().slice();
      writer.index = 0; // `offset` goes on counting
      await sink.write(bytes);
    };
    const parquet = new ParquetWriter({ writer, schema, createdBy: "moco-v3" });
    for await (const { names, features } of inChunksOf(groupRows, rows)) {
      const embedding = names.map((_, i) => Array.from(features.subarray(i * rows.dim, (i + 1) * rows.dim)));
      await parquet.write({
        columnData: [{ name: "file", data: [...names], encoding: "PLAIN" }, { name: "embedding", data: embedding, encoding: "PLAIN", codec: "UNCOMPRESSED", statistics: false }],
        rowGroupSize: groupRows,
      });
      await flush();
    }
    await parquet.finish();
    await flush();
  });
}

/** Reads the columns `file` and `embedding`, the latter lists of float32 or float64. */
export async function readParquet(path: string): Promise<Embeddings> {
  try {
    return await withParquetFile(path, (file) => readRows(path, file));
  } catch (error) {
    if (!(error instanceof ShardError)) throw error;
    if (error.cause instanceof EmbeddingFileError) throw error.cause;
    throw new EmbeddingFileError(path, error.message.slice(path.length + 2), { cause: error });
  }
}

async function readRows(path: string, file: AsyncBuffer): Promise<Embeddings> {
  const metadata = await parquetMetadataAsync(file);
  requireColumns(path, metadata);
  const counts = metadata.row_groups.map((group) => Number(group.num_rows));
  const total = counts.reduce((sum, count) => sum + count, 0);
  const names: string[] = [];
  let features: FeatureRows | undefined;
  try {
    for (const [g, count] of counts.entries()) {
      for (const row of await readGroup(path, file, metadata, g, count)) {
        const { file: name, embedding } = row;
        if (typeof name !== "string" || !isVector(embedding)) {
          throw new EmbeddingFileError(path, `row ${names.length} has no file name or no embedding without gaps; write the file with moco embed`);
        }
        const dim = embedding.length;
        if (features === undefined) {
          requireDimensions(path, dim);
          if (total * dim * 4 > MOST_EXPANSION * (file.byteLength + 2 ** 20)) {
            throw new EmbeddingFileError(path, `it claims ${total} rows of ${dim} values in ${file.byteLength} bytes; the file is damaged or hostile`);
          }
          features = new FeatureRows(total, dim);
        }
        if (dim !== features.dim) {
          throw new EmbeddingFileError(path, `row ${names.length} has ${dim} values, and the rows before have ${features.dim}`);
        }
        features.push(embedding);
        names.push(name);
      }
    }
    if (features === undefined) throw new EmbeddingFileError(path, "it has no rows; write the file with moco embed");
  } catch (error) {
    features?.tensor.dispose();
    throw error;
  }
  return checkedEmbeddings(path, names, features.finished());
}

async function readGroup(
  path: string, file: AsyncBuffer, metadata: FileMetaData, index: number, count: number,
): Promise<Record<string, unknown>[]> {
  const group = metadata.row_groups[index]!;
  const columns = group.columns.filter(({ meta_data }) => ["file", "embedding"].includes(meta_data?.path_in_schema[0] ?? ""));
  for (const { meta_data } of columns) {
    const bytes = Number(meta_data!.total_uncompressed_size);
    const values = Number(meta_data!.num_values);
    if (bytes > LARGEST_CHUNK || 4 * values > LARGEST_CHUNK) {
      throw new EmbeddingFileError(
        path, `a row group has ${Math.max(bytes, 4 * values)} bytes in ${meta_data!.path_in_schema[0]}, more than the ${LARGEST_CHUNK} that are ` +
        "read at once; write the file again with smaller row groups (row_group_size=10000 in Python's pyarrow)",
      );
    }
    await checkPages(file, meta_data!);
  }
  const { version, schema: elements, metadata_length } = metadata;
  const alone = { version, schema: elements, metadata_length, num_rows: group.num_rows, row_groups: [{ ...group, columns }] };
  const rows = await parquetReadObjects({ file, metadata: alone, compressors, columns: ["file", "embedding"], rowStart: 0, rowEnd: count });
  if (rows.length !== count) throw new EmbeddingFileError(path, `a row group holds ${rows.length} of the ${count} rows that it should`);
  return rows;
}

function requireColumns(path: string, { schema: elements }: FileMetaData): void {
  const at = (name: string): number => elements.findIndex((element) => element.name === name);
  const [file, embedding] = [elements[at("file")], elements[at("embedding")]];
  if (file?.type === "BYTE_ARRAY" && embedding !== undefined && embedding.type === undefined) {
    const leaf = elements[at("embedding") + 2];
    if (leaf?.type === "FLOAT" || leaf?.type === "DOUBLE") return;
  }
  const names = elements.slice(1, 20).map(({ name }) => JSON.stringify(name.slice(0, 40))).join(", ");
  throw new EmbeddingFileError(
    path, `its columns (${names}) are not "file", strings, and "embedding", lists of floats; write the file with moco embed`,
  );
}

function isVector(value: unknown): value is number[] {
  return (Array.isArray(value) || ArrayBuffer.isView(value)) && (value as ArrayLike<unknown>).length > 0 &&
    Array.prototype.every.call(value, (each) => typeof each === "number");
}
