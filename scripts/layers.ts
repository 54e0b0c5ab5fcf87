import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import ts from "typescript";

/** From top to bottom: a layer imports only from itself and from layers below it. */
export const LAYERS = [
  "cli", "train", "report", "data", "moco", "models", "optim", "checkpoint", "distributed", "nn", "torch", "native", "setup",
  "config", "nearestNames",
] as const;

// The package's own entry point gathers what the layers export: it stands above all.
const ENTRY_POINTS = new Set(["index"]);

/** The imports that break the layer rule, one sentence each; empty if all is well. */
export function layerViolations(libFolder: string): string[] {
  const files = readdirSync(libFolder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.m?ts$|\.mjs$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name));
  return files.flatMap((file) => violationsIn(file, libFolder));
}

function violationsIn(file: string, libFolder: string): string[] {
  const from = layerOf(relative(libFolder, file));
  const name = join("lib", relative(libFolder, file));
  if (ENTRY_POINTS.has(from)) return [];
  if (rank(from) < 0) return [`${name} is in no layer: add ${from} to LAYERS, or move it`];
  // Type-only and dynamic imports count: a layer must not even know what is above it.
  const { importedFiles } = ts.preProcessFile(readFileSync(file, "utf8"), true, true);
  return importedFiles.flatMap(({ fileName }) => {
    if (!fileName.startsWith(".")) return [];
    const target = relative(libFolder, join(dirname(file), fileName));
    // The benchmarks live with the scripts, and are run by the topmost layer.
    if (target.startsWith("..")) return from === "cli" ? [] : [`${name} imports ${fileName}, which is outside lib`];
    const to = layerOf(target);
    if (ENTRY_POINTS.has(to)) return [`${name} imports the package's entry point; import from the layer itself`];
    if (rank(to) < 0) return [`${name} imports ${fileName}, which is in no layer`];
    return rank(to) < rank(from) ? [`${name} imports ${fileName}: ${from} is below ${to}`] : [];
  });
}

function layerOf(path: string): string {
  return path.split(sep)[0]!.replace(/\.m?[jt]s$/, "");
}

function rank(layer: string): number {
  return (LAYERS as readonly string[]).indexOf(layer);
}
