import { resolve, sep } from "node:path";
import { readConfig } from "../config.js";

/**
 * What to do about an error of the system that nothing below has explained, such as "EACCES: permission denied, mkdir 'runs'", as a sentence
 * to stand behind its message; null for other errors.
 */
export function systemRemedy(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  const { code, path, syscall } = error as NodeJS.ErrnoException;
  if (syscall === undefined) return null;
  switch (code) {
    case "EACCES": case "EPERM": case "EROFS":
      if (path !== undefined && isWithin(path, cacheFolder())) return "Set MOCO_CACHE to a folder that you may write to";
      return "You may not write or read there: choose another folder (--out says where results go), or have its permissions changed";
    case "ENOSPC": case "EDQUOT":
      return "The disk is full: free some space, or choose a folder on another disk (--out says where results go, MOCO_CACHE where libtorch does)";
    case "ENOTDIR": case "EEXIST":
      return "There is a file where a folder is needed: choose another folder, or move the file";
    case "EISDIR":
      return "There is a folder where a file is needed: give the file's name too";
    case "ENOENT":
      return "There is no such file or folder: look at the spelling, and from which folder the path starts";
    case "EMFILE": case "ENFILE":
      return "Too many files are open: raise the limit with `ulimit -n 65536`";
    default:
      return null;
  }
}

function isWithin(path: string, folder: string | null): boolean {
  return folder !== null && (resolve(path) + sep).startsWith(folder + sep);
}

function cacheFolder(): string | null {
  try {
    return resolve(readConfig().cache);
  } catch {
    return null; // the environment itself may be what is wrong
  }
}
