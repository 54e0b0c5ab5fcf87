import { readFileSync, writeFileSync } from "node:fs";
import type { Tarball } from "./pack.js";
import type { SymbolVersions } from "./symbolVersions.js";

const BEGIN = "<!-- sizes -->\n";
const END = "<!-- /sizes -->";

/** Writes the tarballs' sizes and what their binaries need into a page, between two marks that it has. */
export function recordPackages(page: string, tarballs: readonly Tarball[], needs: Readonly<Record<string, SymbolVersions>>): void {
  const text = readFileSync(page, "utf8");
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${page} has no place for the sizes: a line ${BEGIN.trim()} and below it ${END}`);
  writeFileSync(page, `${text.slice(0, begin + BEGIN.length)}${packageTables(tarballs, needs)}${text.slice(end)}`);
}

function packageTables(tarballs: readonly Tarball[], needs: Readonly<Record<string, SymbolVersions>>): string {
  const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(2)} MB`;
  const sizes = tarballs.map(({ name, packedBytes, unpackedBytes, paths }) => `| ${name} | ${megabytes(packedBytes)} | ${megabytes(unpackedBytes)} | ${paths.length} |`);
  const binaries = Object.entries(needs).map(([file, { GLIBC = "–", GLIBCXX = "–", CXXABI = "–" }]) => `| ${file} | ${GLIBC} | ${GLIBCXX} | ${CXXABI} |`);
  return [
    "| package | tarball | unpacked | files |", "| --- | --- | --- | --- |", ...sizes, "",
    "| binary | newest GLIBC | GLIBCXX | CXXABI |", "| --- | --- | --- | --- |", ...binaries, "",
  ].join("\n");
}
