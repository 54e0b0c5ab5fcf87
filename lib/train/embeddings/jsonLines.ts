import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { writeDurably } from "../../checkpoint/index.js";
import { TextLineError, textLines } from "../../data/list/textLines.js";
import {
  checkedEmbeddings, EmbeddingFileError, FeatureRows, jsonLine, MOST_DIMENSIONS, requireDimensions, type EmbeddingChunk, type EmbeddingRows,
  type Embeddings,
} from "./embeddings.js";

/** Longest line that is read, in characters: the longest vector, written in full, and a name. */
const LONGEST_LINE = 32 * MOST_DIMENSIONS;

/** Rows as lines `{"file":"a.jpg","embedding":[0.1,...]}`, each with its line feed. Nine digits tell float32 values apart. */
export function* jsonLinesOf({ names, features }: EmbeddingChunk): Generator<string> {
  const dim = features.length / names.length;
  for (const [row, name] of names.entries()) {
    const values: number[] = [];
    for (let i = row * dim; i < (row + 1) * dim; i++) values.push(+features[i]!.toPrecision(9));
    yield `{"file":${jsonLine(name)},"embedding":[${values.join(",")}]}\n`;
  }
}

/** Writes one JSON object a line. */
export async function writeJsonLines(path: string, rows: EmbeddingRows): Promise<void> {
  await writeDurably(path, async (sink) => {
    for await (const chunk of rows.chunks()) {
      let text = "";
      for (const line of jsonLinesOf(chunk)) {
        text += line;
        if (text.length < 2 ** 20) continue;
        await sink.write(Buffer.from(text, "utf8"));
        text = "";
      }
      await sink.write(Buffer.from(text, "utf8"));
    }
  });
}

/** Reads lines `{"file": ..., "embedding": [...]}`; other fields are left aside. */
export async function readJsonLines(path: string): Promise<Embeddings> {
  const { size } = await stat(path);
  const count = await countLines(path);
  const names: string[] = [];
  let features: FeatureRows | undefined;
  const fail = (reason: string): never => {
    throw new EmbeddingFileError(path, `line ${names.length + 1} ${reason}`);
  };
  try {
    for await (const lines of textLines(path, { longest: LONGEST_LINE })) {
      for (const line of lines) {
        const row = parsedRow(line);
        if (row === null) return fail('is no object {"file": "...", "embedding": [...]}; write the file with moco embed');
        const dim = row.embedding.length;
        if (features === undefined) {
          requireDimensions(path, dim);
          // A number and its comma take two bytes: a few long lines and many empty ones cannot ask for more memory than that.
          if (count * dim * 2 > size) return fail(`has ${dim} values, which ${count} lines of ${size} bytes in all cannot have; rows are equally long`);
          features = new FeatureRows(count, dim);
        }
        if (dim !== features.dim) return fail(`has ${dim} values, and the lines before have ${features.dim}`);
        if (names.length === count) return fail("was written while the file was being read; read it again");
        features.push(row.embedding);
        names.push(row.file);
      }
    }
    if (features === undefined) throw new EmbeddingFileError(path, "it is empty; write the file with moco embed");
    if (names.length < count) return fail("has gone while the file was being read; read it again");
  } catch (error) {
    features?.tensor.dispose();
    if (error instanceof TextLineError) throw new EmbeddingFileError(path, `line ${error.line} ${error.message}`, { cause: error });
    throw error;
  }
  return checkedEmbeddings(path, names, features.finished());
}

function parsedRow(line: string): { file: string; embedding: number[] } | null {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null) return null;
  const { file, embedding } = value as Record<string, unknown>;
  if (typeof file !== "string" || !Array.isArray(embedding) || !embedding.every((each) => typeof each === "number")) return null;
  return { file, embedding };
}

/** Lines of a text; the last one need not end in a line feed. */
async function countLines(path: string): Promise<number> {
  let count = 0;
  let last = 10;
  for await (const bytes of createReadStream(path, { highWaterMark: 2 ** 20 }) as AsyncIterable<Buffer>) {
    for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) count++;
    last = bytes[bytes.length - 1]!;
  }
  return last === 10 ? count : count + 1;
}
