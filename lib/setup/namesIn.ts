import { readdirSync } from "node:fs";

/** Names of what a folder holds; none where there is no such folder. @throws the system's error for one that may not be read, or is a file */
export function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
