import { createRequire } from "node:module";
import { dirname } from "node:path";

/** Where npm has put a package, or null if it is not installed. @param from a file that could import it; default: one of this package's */
export function installedPackage(name: string, from: string = import.meta.url): string | null {
  try {
    return dirname(createRequire(from).resolve(`${name}/package.json`));
  } catch {
    return null;
  }
}
