import { open } from "node:fs/promises";
import { parquetMetadataAsync, parquetReadObjects, type AsyncBuffer, type FileMetaData, type RowGroup } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { checkPages } from "./parquetPages.js";
import { ShardError } from "./shardError.js";

/** Which columns of a Parquet file hold images and labels. */
export interface ParquetColumns {
  image: string;
  /** Whether the image column is Hugging Face's struct of `bytes` and `path`, or the bytes themselves. */
  struct: boolean;
  label: string | null;
}

/** A row group and no more of its file's metadata than is needed to read it: a file may have thousands. */
export interface ParquetGroup {
  path: string;
  /** Its first row's number in the file. */
  firstRow: number;
  rows: number;
  columns: ParquetColumns;
  metadata: FileMetaData;
}

export interface ParquetRow {
  image: unknown;
  label: unknown;
}

const largestChunk = 2 * 1024 ** 3; // bytes of a column in a row group, which is in memory at once
const usualColumns = ["image", "img", "jpg", "jpeg", "png", "webp", "bytes"];

/** A file for hyparquet, in whose ranges it is read; to be closed. */
async function openBuffer(path: string): Promise<AsyncBuffer & { close(): Promise<void> }> {
  const file = await open(path);
  const { size } = await file.stat();
  return {
    byteLength: size,
    async slice(start, end = size) {
      if (start < 0 || end > size) throw new RangeError(`the file has ${size} bytes, not the ${end} that it speaks of`);
      const bytes = new Uint8Array(end - start);
      for (let filled = 0; filled < bytes.length;) {
        const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, start + filled);
        if (bytesRead === 0) throw new RangeError(`the file ends at byte ${start + filled}`);
        filled += bytesRead;
      }
      return bytes.buffer;
    },
    close: () => file.close(),
  };
}

/**
 * Opens a Parquet file for `read` and closes it.
 *
 * @throws {ShardError} for whatever `read` throws.
 */
export async function withParquetFile<T>(path: string, read: (buffer: AsyncBuffer) => Promise<T>): Promise<T> {
  try {
    const buffer = await openBuffer(path);
    try {
      return await read(buffer);
    } finally {
      await buffer.close();
    }
  } catch (error) {
    if (error instanceof ShardError) throw error;
    throw new ShardError(path, `cannot be read as Parquet: ${(error as Error).message}; fetch or write the file again`, { cause: error });
  }
}

/**
 * The row groups of a Parquet file and the names of its classes, from its footer.
 *
 * @param wanted columns that the user named
 * @throws {ShardError} when it is not a Parquet file, is damaged, or has no column of images.
 */
export function readParquetGroups(
  path: string, wanted: { column?: string; labelColumn?: string },
): Promise<{ groups: ParquetGroup[]; classes: string[] | null }> {
  return withParquetFile(path, async (buffer) => {
    const metadata = await parquetMetadataAsync(buffer);
    const columns = findColumns(path, metadata, wanted);
    const groups: ParquetGroup[] = [];
    let firstRow = 0;
    for (const group of metadata.row_groups) {
      const rows = Number(group.num_rows);
      if (rows > 0) groups.push({ path, firstRow, rows, columns, metadata: onlyGroup(path, metadata, group, columns) });
      firstRow += rows;
    }
    return { groups, classes: columns.label === null ? null : classNames(metadata, columns.label) };
  });
}

/** Rows of a row group, `from` to below `to`; only the columns of images and labels are read. */
export async function readParquetRows(group: ParquetGroup, from: number, to: number): Promise<ParquetRow[]> {
  const { path, columns, metadata } = group;
  const names = columns.label === null ? [columns.image] : [columns.image, columns.label];
  const rows = await withParquetFile(path, async (file) => {
    for (const { meta_data } of metadata.row_groups[0]!.columns) await checkPages(file, meta_data!);
    const read = await parquetReadObjects({ file, metadata, compressors, columns: names, rowStart: from, rowEnd: to, utf8: false });
    if (read.length !== to - from) throw new RangeError(`a row group holds ${read.length} of the ${to - from} rows that it should`);
    return read;
  });
  const label = columns.label ?? "";
  return rows.map((row) => ({ image: row[columns.image] as unknown, label: row[label] as unknown }));
}

/** Metadata as of a file with this row group alone, without statistics and other columns. */
function onlyGroup(path: string, metadata: FileMetaData, group: RowGroup, columns: ParquetColumns): FileMetaData {
  const kept = group.columns.filter((chunk) => {
    const top = chunk.meta_data?.path_in_schema[0];
    return top === columns.image || top === columns.label;
  });
  for (const { meta_data } of kept) {
    const name = meta_data!.path_in_schema.join(".");
    if (meta_data!.num_values !== group.num_rows) {
      throw new ShardError(path, `${name} has ${meta_data!.num_values} values in ${group.num_rows} rows; give a column without lists`);
    }
    const bytes = Number(meta_data!.total_uncompressed_size);
    if (bytes > largestChunk) {
      throw new ShardError(
        path,
        `a row group has ${bytes} bytes in ${name}, more than the ${largestChunk} that are read at once; ` +
          "write the file again with smaller row groups (row_group_size=1000 in Python's pyarrow)",
      );
    }
  }
  const lean = kept.map((chunk) => {
    const { statistics: _statistics, encoding_stats: _encodings, size_statistics: _sizes, ...about } = chunk.meta_data!;
    return { ...chunk, meta_data: about };
  });
  const { version, schema, metadata_length } = metadata;
  return { version, schema, metadata_length, num_rows: group.num_rows, row_groups: [{ ...group, columns: lean }] };
}

interface Column {
  name: string;
  /** Names of what a struct holds. */
  fields: string[];
  type: string;
}

function topLevelColumns({ schema }: FileMetaData): Column[] {
  const columns: Column[] = [];
  /** Reads the element at `at` with all below it. */
  const read = (at: number, into: Column[]): number => {
    const { name, num_children = 0, type, converted_type, logical_type } = schema[at]!;
    const inside: Column[] = [];
    let next = at + 1;
    for (let i = 0; i < num_children; i++) next = read(next, inside);
    const fields = inside.map((column) => column.name);
    const plain = logical_type?.type ?? converted_type ?? type ?? "";
    into.push({ name, fields, type: num_children > 0 ? `struct of ${fields.join(", ")}` : plain });
    return next;
  };
  for (let at = 1; at < schema.length;) at = read(at, columns);
  return columns;
}

function findColumns(path: string, metadata: FileMetaData, wanted: { column?: string; labelColumn?: string }): ParquetColumns {
  const columns = topLevelColumns(metadata);
  const list = columns.map(({ name, type }) => `${name} (${type})`).join(", ");
  const holdsImages = ({ fields, type }: Column): boolean => fields.includes("bytes") || type === "BYTE_ARRAY";
  const named = (name: string): Column | undefined => columns.find((column) => column.name === name);
  const image = wanted.column === undefined
    ? usualColumns.map(named).find((column) => column && holdsImages(column))
    : named(wanted.column);
  if (!image || !holdsImages(image)) {
    const what = wanted.column === undefined ? `no column of images (${usualColumns.join(", ")})` : `no column ${wanted.column} of images`;
    throw new ShardError(path, `${what}: bytes, or a struct of bytes and path; its columns are ${list}; name one of them as the column`);
  }
  const label = named(wanted.labelColumn ?? "label");
  if (!label && wanted.labelColumn !== undefined) {
    throw new ShardError(path, `no column ${wanted.labelColumn} of labels; its columns are ${list}`);
  }
  return { image: image.name, struct: image.fields.length > 0, label: label?.name ?? null };
}

/** Names of the classes as Hugging Face's datasets library writes them to the file. */
function classNames(metadata: FileMetaData, label: string): string[] | null {
  const text = metadata.key_value_metadata?.find(({ key }) => key === "huggingface")?.value;
  if (text === undefined) return null;
  try {
    const { info } = JSON.parse(text) as { info?: { features?: Record<string, { names?: unknown } | undefined> } };
    const names = info?.features?.[label]?.names;
    return Array.isArray(names) && names.every((name) => typeof name === "string") ? names : null;
  } catch {
    return null;
  }
}
