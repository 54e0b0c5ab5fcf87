import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { writeDurably } from "../checkpoint/files/durableFile.js";

/** A report that cannot be written. */
export class ReportFileError extends Error {
  override readonly name = "ReportFileError";
}

/** Writes a report, in a folder that is made if need be. It appears complete or not at all. @throws ReportFileError */
export async function writeReportFile(path: string, content: Uint8Array): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeDurably(path, (sink) => sink.write(content));
  } catch (error) {
    throw new ReportFileError(`${path} cannot be written: ${(error as Error).message}; choose another --out`, { cause: error });
  }
}
