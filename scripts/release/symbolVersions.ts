import { execFileSync } from "node:child_process";

/** The newest versions of symbols that packaged binaries may need: those of the libraries in libtorch's own packages (manylinux_2_28). */
export const NEWEST_ALLOWED: Readonly<Record<string, string>> = { GLIBC: "2.28", GLIBCXX: "3.4.24", CXXABI: "1.3.11", GCC: "7.0.0" };

/** Newest version of each family of symbols, such as `{ GLIBC: "2.17", GLIBCXX: "3.4.22" }`. */
export type SymbolVersions = Record<string, string>;

/** A packaged binary needs a newer system than libtorch's own packages do. */
export class PortabilityError extends Error {
  override readonly name = "PortabilityError";
}

/**
 * Reads from readelf's list of dynamic symbols what a binary needs of glibc, libstdc++ and libgcc.
 *
 * @param table what `readelf --dyn-syms --wide` prints
 */
export function neededVersions(table: string): SymbolVersions {
  const newest: SymbolVersions = {};
  for (const [, family = "", version = ""] of table.matchAll(/ UND .*@(GLIBC|GLIBCXX|CXXABI|GCC)_([0-9.]+)/g)) {
    if (newest[family] === undefined || compareVersions(version, newest[family]) > 0) newest[family] = version;
  }
  return newest;
}

/**
 * What a file needs, checked against {@link NEWEST_ALLOWED}.
 *
 * @throws PortabilityError that names the symbols which are too new
 */
export function checkSymbolVersions(file: string): SymbolVersions {
  const table = execFileSync("readelf", ["--dyn-syms", "--wide", file], { encoding: "utf8", maxBuffer: 2 ** 28 });
  const needed = neededVersions(table);
  const tooNew = Object.entries(needed).filter(([family, version]) => compareVersions(version, NEWEST_ALLOWED[family]!) > 0);
  if (tooNew.length === 0) return needed;
  const names = tooNew.flatMap(([family]) =>
    [...table.matchAll(new RegExp(` UND ([^@\\s]+)@+(${family}_([0-9.]+))`, "g"))]
      .filter(([, , , version = ""]) => compareVersions(version, NEWEST_ALLOWED[family]!) > 0).map(([, name, version]) => `${name} (${version})`));
  throw new PortabilityError(
    `${file} needs symbols that systems with glibc ${NEWEST_ALLOWED.GLIBC} lack: ${names.join(", ")}; at most ` +
      `${Object.entries(NEWEST_ALLOWED).map(([family, version]) => `${family} ${version}`).join(", ")} may be needed: add them to native/portable/oldGlibc.cc`,
  );
}

/** Negative where `a` is older than `b`. */
export function compareVersions(a: string, b: string): number {
  const [x, y] = [a, b].map((each) => each.split(".").map(Number)) as [number[], number[]];
  for (let i = 0; i < Math.max(x.length, y.length); i++) {
    const difference = (x[i] ?? 0) - (y[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
