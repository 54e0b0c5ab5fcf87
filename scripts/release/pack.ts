import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";

/** A package as it is published. */
export interface Tarball {
  name: string;
  /** The folder that was packed. */
  folder: string;
  /** The tarball. */
  file: string;
  packedBytes: number;
  unpackedBytes: number;
  /** What is in it. */
  paths: string[];
}

/** Packs a folder with `npm pack` into a tarball in `destination`. */
export function pack(folder: string, destination: string): Tarball {
  mkdirSync(destination, { recursive: true });
  const output = execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", destination], { cwd: folder, encoding: "utf8" });
  const parsed = JSON.parse(output) as PackReport[] | Record<string, PackReport>;
  const [report] = Array.isArray(parsed) ? parsed : Object.values(parsed);
  const { name, filename, size, unpackedSize, files } = report!;
  return { name, folder, file: join(destination, filename), packedBytes: size, unpackedBytes: unpackedSize, paths: files.map(({ path }) => path) };
}

interface PackReport {
  name: string;
  filename: string;
  size: number;
  unpackedSize: number;
  files: { path: string }[];
}
