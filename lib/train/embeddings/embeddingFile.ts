import { stat } from "node:fs/promises";
import { EmbeddingFileError, rowsOf, type EmbeddingRows, type Embeddings } from "./embeddings.js";
import { readJsonLines, writeJsonLines } from "./jsonLines.js";
import { namesFile, readNpy, writeNpy } from "./npy.js";
import { readParquet, writeParquet } from "./parquet.js";
import { readSafetensors, writeSafetensors } from "./safetensors.js";

/** A kind of file that holds embeddings. */
interface EmbeddingFormat {
  read(path: string): Promise<Embeddings>;
  write(path: string, rows: EmbeddingRows): Promise<void>;
}

const formats: Readonly<Record<string, EmbeddingFormat>> = {
  ".npy": { read: readNpy, write: writeNpy },
  ".parquet": { read: readParquet, write: writeParquet },
  ".jsonl": { read: readJsonLines, write: writeJsonLines },
  ".safetensors": { read: readSafetensors, write: writeSafetensors },
};

/** Endings of the files that `readEmbeddings` and `writeEmbeddings` know. */
export const embeddingEndings: readonly string[] = Object.keys(formats);

/** @throws EmbeddingFileError for a name that tells no known kind */
export function embeddingFormat(path: string): EmbeddingFormat {
  const format = embeddingEndings.find((ending) => path.toLowerCase().endsWith(ending));
  if (format !== undefined) return formats[format]!;
  throw new EmbeddingFileError(path, `its name tells no kind of embeddings file; let it end in ${embeddingEndings.join(", ")}`);
}

/** The files that make up the embeddings file `path`: a `.npy` has its names beside it. */
export function filesOf(path: string): string[] {
  return path.toLowerCase().endsWith(".npy") ? [namesFile(path), path] : [path];
}

/**
 * Reads an embeddings file, of the kind that its name's ending tells: `.npy` (with `.names.jsonl` beside it), `.parquet`, `.jsonl` or
 * `.safetensors`. The file may come from anywhere: sizes are checked before memory is taken for them.
 *
 * @returns names, and float32 features [N, D] on the CPU, to be disposed of by the caller
 * @throws EmbeddingFileError for a file that is missing, damaged, of another kind, or holds values that are not finite
 * @example
 * using images = await readEmbeddings("features.npy");
 * console.log(images.names[0], images.features.shape); // cat.jpg [ 5000, 384 ]
 */
export async function readEmbeddings(path: string): Promise<Embeddings> {
  const format = embeddingFormat(path);
  const about = await stat(path).catch(() => null);
  if (about === null) throw new EmbeddingFileError(path, "there is no such file; compute one with moco embed");
  if (!about.isFile()) throw new EmbeddingFileError(path, "it is no regular file; give a file that moco embed wrote");
  return format.read(path);
}

/**
 * Writes embeddings to a file of the kind that its name's ending tells, so that `path` holds all of the old or all of the new content.
 *
 * @param embeddings in memory, or as rows that come from elsewhere
 * @throws EmbeddingFileError for a name that tells no known kind; errors of the disk as they are
 * @example await writeEmbeddings("features.parquet", { names: table.names, features: table.features });
 */
export async function writeEmbeddings(path: string, embeddings: EmbeddingRows | Pick<Embeddings, "names" | "features">): Promise<void> {
  await embeddingFormat(path).write(path, "chunks" in embeddings ? embeddings : rowsOf(embeddings));
}
