import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FileSource, MemorySource, type ByteSource } from "../../lib/checkpoint/byteSource.js";
import { CheckpointError } from "../../lib/checkpoint/error.js";
import { disposeTensors } from "../../lib/checkpoint/dispose.js";
import { diskFiles, type FileLayer } from "../../lib/checkpoint/files/fileLayer.js";
import { defaultLimits } from "../../lib/checkpoint/limits.js";
import { OrderedDict, PythonObject } from "../../lib/checkpoint/pythonValues.js";
import { readCheckpointFrom, type ReadOptions } from "../../lib/checkpoint/readCheckpoint.js";
import { writeCheckpoint } from "../../lib/checkpoint/writeCheckpoint.js";
import * as torch from "../../lib/torch/index.js";
import type { Depth, FuzzInput, FuzzTarget } from "./fuzzTarget.js";

/** What reading one input came to. `fault` is null unless it is a finding. */
export interface Outcome {
  readonly depth: Depth;
  /** "value", or the kind of error. */
  readonly kind: string;
  readonly fault: string | null;
}

export type Reader = (source: ByteSource, options: ReadOptions) => Promise<unknown>;

/** Reading may take that much beyond twice the file's size. */
export const ALLOWANCE = 64 * 2 ** 20;

const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

/** The name under which an input in memory is read; an error must give it. */
const NAME = "input.pth";

/**
 * Reads an input and judges the result: a value that can be walked, and written again, or a `CheckpointError` that names the file and a
 * reason. Anything else is a finding, and so are tensors that are left over.
 *
 * @param folder - for inputs that go through a real file
 */
export async function examine(input: FuzzInput, target: FuzzTarget, folder: string, read: Reader = readCheckpointFrom): Promise<Outcome> {
  const before = torch.memory().tensors;
  const path = join(folder, NAME);
  let outcome: Outcome;
  try {
    outcome = input.throughFile ? await readFile(input, target, path, read)
      : await judge(input, target, new MemorySource(NAME, input.bytes), read);
  } catch (error) {
    outcome = finding("value", `${stage(error)}${describeError(error)}`);
  }
  const left = torch.memory().tensors - before;
  if (left !== 0 && outcome.fault === null) return finding(outcome.depth, `${left} tensors are left over`);
  return outcome;
}

async function readFile(input: FuzzInput, target: FuzzTarget, path: string, read: Reader): Promise<Outcome> {
  writeFileSync(path, input.bytes);
  const source = await FileSource.open(path);
  try {
    return await judge(input, target, source, read);
  } finally {
    await source.close();
    rmSync(path);
  }
}

async function judge(input: FuzzInput, target: FuzzTarget, source: ByteSource, read: Reader): Promise<Outcome> {
  const memory = torch.memory().bytes;
  let value: unknown;
  try {
    value = await read(source, input.options);
  } catch (error) {
    if (!(error instanceof CheckpointError)) return finding("pickle", describeError(error));
    if (error.file !== source.name || error.reason.length < 5) {
      return finding("pickle", `an error without file or reason: ${error.message}`);
    }
    // An error of another kind in a CheckpointError's clothes.
    if (error.cause !== undefined) return finding("tensors", `${error.message}; cause: ${describeError(error.cause)}`);
    if (CONTROL.test(error.message)) return finding("pickle", "an error message with control characters out of the file");
    if (error.message.length > 4000) return finding("pickle", `an error message of ${error.message.length} characters`);
    return { ...target.classify(error.reason, error.entry), fault: null };
  }
  try {
    const taken = torch.memory().bytes - memory;
    if (taken > 2 * input.bytes.length + ALLOWANCE) {
      return finding("value", `tensors of ${taken} bytes out of a file of ${input.bytes.length}`);
    }
    walk(value);
    if (input.writeBack) await writeBack(value, input, target, read);
    return { depth: "value", kind: "value", fault: null };
  } finally {
    disposeTensors(value);
  }
}

function finding(depth: Depth, fault: string): Outcome {
  return { depth, kind: "finding", fault };
}

function describeError(error: unknown): string {
  if (!(error instanceof Error)) return `threw ${String(error)}`;
  const frames = (error.stack ?? "").split("\n").slice(1, 6).map((line) => ` <${line.trim()}`);
  return `${error.name}: ${error.message.slice(0, 300)}${frames.join("")}`;
}

class WalkError extends Error {
  override readonly name = "WalkError";
}

function stage(error: unknown): string {
  return error instanceof WalkError ? "" : "using the value: ";
}

/** Looks at every part of a value; reads the elements of small tensors. */
function walk(root: unknown): void {
  const seen = new Set<object>();
  const visit = (value: unknown): void => {
    if (typeof value === "string") {
      if (value.length > defaultLimits.stringBytes) throw new WalkError(`a string of ${value.length} characters`);
      return;
    }
    if (typeof value === "function" || typeof value === "symbol") throw new WalkError(`a ${typeof value} in the value`);
    if (typeof value !== "object" || value === null || seen.has(value)) return;
    seen.add(value);
    if (value instanceof torch.Tensor) return checkTensor(value);
    if (Array.isArray(value) || value instanceof Set) {
      for (const item of value as Iterable<unknown>) visit(item);
    } else if (value instanceof Map) {
      for (const [key, item] of value) {
        visit(key);
        visit(item);
      }
      if (value instanceof OrderedDict) visit(value.attributes);
    } else if (value instanceof PythonObject) {
      for (const part of [value.args, value.state, value.items, value.entries]) visit(part);
    } else if (Object.getPrototypeOf(value) === null) {
      for (const item of Object.values(value)) visit(item);
    }
  };
  visit(root);
}

/** Tensors up to this many elements are read. */
const FEW_ELEMENTS = 2000;

function checkTensor(tensor: torch.Tensor): void {
  const elements = tensor.numel();
  const { shape } = tensor;
  if (shape.some((size) => !Number.isSafeInteger(size) || size < 0)) throw new WalkError(`a tensor of shape [${shape.join(", ")}]`);
  const product = shape.reduce((total, size) => total * size, 1);
  if (product !== elements) throw new WalkError(`a tensor of shape [${shape.join(", ")}] and ${elements} elements`);
  if (elements > FEW_ELEMENTS) return;
  const data = tensor.data();
  if (data.length !== elements && data.length !== 2 * elements) throw new WalkError(`${data.length} numbers for ${elements} elements`);
}

/** Writes the value into memory and reads what was written: what we hand out, we can take back. */
async function writeBack(value: unknown, input: FuzzInput, { writeFormat }: FuzzTarget, read: Reader): Promise<void> {
  const parts: Buffer[] = [];
  const files: FileLayer = {
    ...diskFiles,
    create: () => Promise.resolve({
      write: (bytes: Uint8Array) => {
        parts.push(Buffer.from(bytes));
        return Promise.resolve(bytes.byteLength);
      },
      sync: () => Promise.resolve(),
      close: () => Promise.resolve(),
    }),
    rename: () => Promise.resolve(),
    remove: () => Promise.resolve(),
    resolve: (path) => Promise.resolve(path),
    syncFolder: () => Promise.resolve(),
  };
  try {
    await writeCheckpoint("written.pth", value, { files, format: writeFormat });
  } catch (error) {
    // What has no counterpart in Python, placeholders above all, is refused.
    if (error instanceof CheckpointError && error.cause === undefined) return;
    throw error instanceof CheckpointError ? error.cause : error;
  }
  const written = Buffer.concat(parts);
  const again = await read(new MemorySource("written.pth", written), input.options);
  try {
    walk(again);
  } finally {
    disposeTensors(again);
  }
}
