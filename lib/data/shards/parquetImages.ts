import { basename, dirname, resolve } from "node:path";
import { BadImageError } from "../errors.js";
import type { ImageInput } from "../imageInput.js";
import { readParquetGroups, readParquetRows, type ParquetGroup } from "./parquetFile.js";
import { ShardError } from "./shardError.js";
import { listShards } from "./shardList.js";
import { ShardStream, type Shard, type ShardSample, type ShardStreamOptions } from "./shardStream.js";
import { someAtOnce } from "./someAtOnce.js";

export interface ParquetOptions extends ShardStreamOptions {
  /** Column of images. Default: the first of `image`, `img`, `jpg`, `jpeg`, `png`, `webp`, `bytes` that holds bytes. */
  column?: string;
  /** Column of labels. Default: `label` where there is one. */
  labelColumn?: string;
}

const filesAtOnce = 8;

/**
 * Images in Parquet files, in the layout of Hugging Face's datasets: a column `image` that is a struct of `bytes` and `path`, or a column
 * of bytes, and a column `label` of whole numbers; the names of the classes come from the file's metadata. A row group is a shard: its
 * columns of images and labels are in memory while it is read, and each image's bytes as long as it is in the shuffle buffer.
 *
 * A row without bytes is the file that its path names, seen from the Parquet file's folder; without a path too it is a bad image.
 *
 * @example
 * const images = await ParquetImages.open("cifar10/plain_text/train-{00000..00003}-of-00004.parquet");
 */
export class ParquetImages extends ShardStream {
  /**
   * @param paths files, and folders of files that end in `.parquet`, with braces for several
   * @throws {ShardError} when a file is missing, damaged, not Parquet, or has no column of images.
   * @throws {DataOptionError} for an option outside its range.
   */
  static async open(paths: string | readonly string[], options: ParquetOptions = {}): Promise<ParquetImages> {
    const { column, labelColumn, ...streamOptions } = options;
    const files = await listShards(paths, [".parquet"]);
    const wanted = { ...(column !== undefined && { column }), ...(labelColumn !== undefined && { labelColumn }) };
    const parsed = await someAtOnce(files, filesAtOnce, (path) => readParquetGroups(path, wanted));
    const groups = parsed.flatMap((file) => file.groups);
    if (groups.length === 0) {
      throw new ShardError(files[0]!, `no row in ${files.length === 1 ? "it" : `it and the ${files.length - 1} others`}; check the path`);
    }
    const classes = parsed.find((file) => file.classes !== null)?.classes;
    return new ParquetImages(groups.map(rowGroup), { ...(classes && { classes }), ...streamOptions });
  }
}

function rowGroup(group: ParquetGroup): Shard {
  const { path, rows, firstRow } = group;
  return {
    name: `${basename(path)} rows ${firstRow} to ${firstRow + rows - 1}`,
    count: rows,
    async *open(part, ended) {
      if (ended.aborted) return;
      const to = Math.min(part.to, rows);
      const read = await readParquetRows(group, part.from, to);
      for (let i = 0; i < read.length; i += part.stride) {
        const { image, label } = read[i]!;
        read[i] = { image: null, label: null }; // its memory is the consumer's now
        yield sampleOf(group, part.from + i, image, label);
      }
    },
  };
}

function sampleOf(group: ParquetGroup, position: number, value: unknown, label: unknown): ShardSample {
  const { path, columns, firstRow } = group;
  const { bytes, path: inside } = (columns.struct ? (value ?? {}) : { bytes: value }) as { bytes?: unknown; path?: unknown };
  const place = `${basename(path)} row ${firstRow + position}`;
  const named = typeof inside === "string" && inside !== "" ? inside : null;
  let image: ImageInput | Promise<ImageInput>;
  let held = 0;
  if (bytes instanceof Uint8Array) {
    image = bytes.slice(); // what is read at once goes when its last row has gone, not when the last of these has
    held = bytes.length;
  } else if (named !== null) image = resolve(dirname(path), named);
  else {
    image = Promise.reject(new BadImageError(`${place}: neither bytes nor a path in the column ${columns.image}`));
    image.catch(() => {}); // it counts when somebody asks for the image
  }
  return { position, name: named === null ? place : `${place} (${named})`, label: labelOf(label), image, bytes: held };
}

/** A whole number from 0; Hugging Face's sets without labels have -1. */
function labelOf(value: unknown): number | null {
  const label = typeof value === "bigint" ? Number(value) : value;
  return typeof label === "number" && Number.isSafeInteger(label) && label >= 0 ? label : null;
}
