import type { ByteSource } from "./byteSource.js";
import { CheckpointError } from "./error.js";
import { parseLegacyCheckpoint } from "./legacyCheckpoint.js";
import { MemoryBudget } from "./limits.js";
import type { ParsedCheckpoint, ParseOptions } from "./parsedCheckpoint.js";
import { isSafetensors, parseSafetensors } from "./safetensors/parseSafetensors.js";
import { checkStructure } from "./structure.js";
import { parseZipCheckpoint } from "./zip/zipCheckpoint.js";

/**
 * Recognises a checkpoint's format and reads everything but the tensors' bytes. The value's structure has been checked: it can be
 * walked recursively.
 */
export async function parseCheckpoint(source: ByteSource, options: ParseOptions): Promise<ParsedCheckpoint> {
  const site = { file: source.name };
  const head = Buffer.alloc(Math.min(512, source.size));
  await source.read(head, 0);
  const budget = new MemoryBudget(source.size);
  let parsed: ParsedCheckpoint;
  if (head.length === 0) {
    throw new CheckpointError(site, 0, "the file is empty; the program that wrote it was stopped, or the copy failed");
  } else if (isSafetensors(head)) { // first: its header's length may have the bytes that a pickle starts with
    parsed = await parseSafetensors(source, options, budget);
  } else if (head.toString("latin1", 0, 4) === "PK\x03\x04") {
    parsed = await parseZipCheckpoint(source, options, budget);
  } else if (head[0] === 0x80) {
    parsed = await parseLegacyCheckpoint(source, options, budget);
  } else {
    throw new CheckpointError(site, 0, `this is not a PyTorch checkpoint: ${otherFormat(head)}`);
  }
  checkStructure(parsed.value, options.limits, site, budget);
  return parsed;
}

function otherFormat(head: Buffer): string {
  const text = head.toString("latin1");
  if (text.slice(257, 262) === "ustar") return "it is a tar archive; unpack it (PyTorch before 0.2 wrote such files too: save it again)";
  if (text.startsWith("\x1f\x8b")) return "it is compressed with gzip; unpack it first";
  if (text.startsWith("\x89HDF")) return "it is an HDF5 file";
  if (text.startsWith("version https://git-lfs")) return "it is a Git LFS pointer; fetch the real file with `git lfs pull`";
  if (/^\s*</.test(text)) return "it looks like a web page; the download failed";
  if (/^.{8}\{"/s.test(text)) return "it looks like a safetensors file whose header claims more than 4 GiB; it is damaged or hostile";
  return "it starts with neither a zip, a pickle nor a safetensors header";
}
