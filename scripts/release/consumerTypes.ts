import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../lib/setup/packageRoot.js";

/**
 * Writes a TypeScript file into a project that imports everything an installed package exports, and answers the compiler's words (its script and flags)
 * that check it with the declarations of all packages, as `tsc` does by default.
 *
 * @param project a folder where the package is installed
 */
export function consumerTypesCheck(project: string): string[] {
  const { name, exports } = JSON.parse(readFileSync(join(project, "node_modules", "moco-v3", "package.json"), "utf8")) as { name: string; exports: object };
  const entries = Object.keys(exports).filter((entry) => !entry.endsWith(".json"));
  const lines = entries.map((entry, i) => `import * as e${i} from "${name}${entry.slice(1)}";`);
  writeFileSync(join(project, "exports.ts"), `${lines.join("\n")}\nexport default [${entries.map((_, i) => `e${i}`).join(", ")}];\n`);
  const modules = join(packageRoot, "node_modules");
  const flags = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--typeRoots", join(modules, "@types")];
  return [join(modules, "typescript", "bin", "tsc"), ...flags, "exports.ts"];
}
