import type { ReadOptions } from "../../lib/checkpoint/readCheckpoint.js";
import type { Random } from "./random.js";

/** One input: a file's bytes, and how it is to be read. */
export interface FuzzInput {
  readonly bytes: Buffer;
  /** How it was made, for the record. */
  readonly strategy: string;
  readonly options: Pick<ReadOptions, "unknownGlobals" | "tagFloats">;
  /** Through a real file instead of memory. */
  readonly throughFile: boolean;
  /** Write the value again, and read that. */
  readonly writeBack: boolean;
  /** For shrinking: parts that may be left out, and the file without them. Absent: the bytes themselves. */
  readonly parts?: { readonly count: number; readonly build: (kept: readonly number[]) => Buffer };
}

/** How far an input got before it was refused; "value" when it was read. */
export type Depth = "container" | "pickle" | "structure" | "tensors" | "value";

/** A reader under test. */
export interface FuzzTarget {
  readonly name: string;
  /** Extension of regression files. */
  readonly extension: string;
  /** Format in which a value is written back. */
  readonly writeFormat: "zip" | "safetensors";
  /** The input of that random state; equal states give equal inputs. */
  readonly input: (random: Random) => FuzzInput;
  /** Which kind of error a reason is, and how deep the reader had got. */
  readonly classify: (reason: string, entry: string | null) => { kind: string; depth: Depth };
}
