/** What a binary needs of the system is read from readelf's table, and what is too new is refused. */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { checkSymbolVersions, compareVersions, neededVersions, PortabilityError } from "../../scripts/release/symbolVersions.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

const folder = temporaryFolder("symbols");

/** Compiles a shared object of this source. */
function library(name: string, source: string): string {
  writeFileSync(join(folder, `${name}.c`), source);
  execFileSync("cc", ["-shared", "-fPIC", "-o", join(folder, `${name}.so`), join(folder, `${name}.c`)]);
  return join(folder, `${name}.so`);
}

test("versions compare by their numbers", () => {
  expect(compareVersions("2.4", "2.17")).toBeLessThan(0);
  expect(compareVersions("3.4.22", "3.4.22")).toBe(0);
  expect(compareVersions("2.2.5", "2.2")).toBeGreaterThan(0);
});

test("the newest of each family counts, of what is needed only", () => {
  const table = [
    "    12: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND memcpy@GLIBC_2.14 (3)",
    "    13: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND free@GLIBC_2.2.5 (2)",
    "    14: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND _ZNSs@GLIBCXX_3.4.9 (4)",
    "    15: 0000000000001000     9 FUNC    GLOBAL DEFAULT   12 own@@GLIBC_2.99",
  ].join("\n");
  expect(neededVersions(table)).toEqual({ GLIBC: "2.14", GLIBCXX: "3.4.9" });
});

test("a library that old systems have all of passes, one that needs more is refused with the symbol's name", () => {
  expect(checkSymbolVersions(library("old", "#include <stdlib.h>\nvoid* f(void) { return malloc(1); }\n"))).toEqual({ GLIBC: "2.2.5" });
  // The assembler is told the version: it need not be this system's newest.
  const source = '__asm__(".symver f,pthread_create@GLIBC_2.34");\nextern int f(void);\nint g(void) { return f(); }\n';
  const refused = (): unknown => checkSymbolVersions(library("new", source));
  expect(refused).toThrow(PortabilityError);
  expect(refused).toThrow(/pthread_create \(GLIBC_2\.34\)/);
});
