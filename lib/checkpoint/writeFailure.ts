import { errorCode } from "./files/durableFile.js";
import { CheckpointError } from "./error.js";

/** The error of a checkpoint that could not be written, with a remedy where the system's error `cause` suggests one. */
export function writeFailure(path: string, cause: unknown): CheckpointError {
  if (cause instanceof CheckpointError) return cause;
  const { message } = cause as Error;
  return new CheckpointError({ file: path }, null, `it cannot be written: ${message}. ${remedy(errorCode(cause))}`, { cause });
}

function remedy(code: string | undefined): string {
  switch (code) {
    case "ENOSPC": case "EDQUOT": return "Free some space, or write to another disk; what was there before is untouched";
    case "ENOENT": case "ENOTDIR": return "Create the folder first";
    case "EACCES": case "EPERM": case "EROFS": return "Choose a folder that you may write to";
    default: return "What was there before is untouched";
  }
}
