import { open } from "node:fs/promises";
import { findWeights } from "../encoder/readEncoder.js";
import { CheckpointError } from "../error.js";
import { readCheckpoint } from "../readCheckpoint.js";

export type FileFormat = "zip" | "legacy" | "safetensors";

/** A file as it was read, before anything is made of it. */
export interface FileContents {
  /** The file itself, also where a folder was given. */
  readonly file: string;
  readonly format: FileFormat;
  readonly fileBytes: number;
  readonly value: unknown;
  /** `config.json` beside it, in a folder of Hugging Face. */
  readonly config: Record<string, unknown> | undefined;
  /** Why the file is refused without placeholders; null for a file that holds nothing unknown. */
  readonly refusal: CheckpointError | null;
}

/**
 * Reads whatever can be read. Classes and functions that checkpoints do not need become placeholders; nothing is ever run. The caller
 * disposes of the value's tensors.
 *
 * @param path a checkpoint, or a folder of Hugging Face
 * @throws CheckpointError for a file that cannot be read; ConvertError for a folder without weights
 */
export async function readForInspection(path: string): Promise<FileContents> {
  const { file, config } = await findWeights(path);
  let refusal: CheckpointError | null = null;
  let value: unknown;
  try {
    value = await readCheckpoint<unknown>(file);
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    refusal = error;
    try {
      value = await readCheckpoint<unknown>(file, { unknownGlobals: "placeholder" });
    } catch {
      throw error; // it is damaged besides, or instead: the first reason is the clearer one
    }
  }
  const { format, fileBytes } = await lookAtFile(file);
  return { file, format, fileBytes, value, config, refusal };
}

/** The format by the first bytes, of a file that has been read already. */
async function lookAtFile(path: string): Promise<{ format: FileFormat; fileBytes: number }> {
  const handle = await open(path);
  try {
    const head = Buffer.alloc(2);
    await handle.read(head, 0, 2, 0);
    const format = head.toString("latin1") === "PK" ? "zip" : head[0] === 0x80 && head[1]! >= 2 && head[1]! <= 5 ? "legacy" : "safetensors";
    return { format, fileBytes: (await handle.stat()).size };
  } finally {
    await handle.close();
  }
}
