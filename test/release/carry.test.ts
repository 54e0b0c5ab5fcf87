/** The script that unpacks what `npm run carry` packs, on a machine of which only Python is known. */
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { unpackScript } from "../../scripts/carry/unpackScript.mjs";
import { temporaryFolder } from "../support/temporaryFolder.js";

const root = temporaryFolder("carry");
const place = (...parts: string[]): string => join(root, ...parts);
const program = (path: string, text: string): void => {
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
};

/** A PATH on which there is little more than a Python with this torch, which tells of how it was called. */
function machine(name: string, torch: string): { bin: string; calls: string } {
  const [bin, calls] = [place(name), place(`${name}.calls`)];
  mkdirSync(bin);
  for (const each of ["tar", "xz", "sh", "mkdir", "cat", "dirname"]) {
    symlinkSync(execFileSync("sh", ["-c", `command -v ${each}`], { encoding: "utf8" }).trim(), join(bin, each));
  }
  program(join(bin, "python3"), `echo "$@" >>${calls}; [ "$1" = -c ] && echo /opt/site/torch ${torch}`);
  return { bin, calls };
}

const source = (bin: string, command: string): { status: number | null; stdout: string; stderr: string } =>
  spawnSync("/bin/bash", ["--norc", "-c", `. ${place("unpack.sh")} ${place("there")} && ${command}`], { encoding: "utf8", env: { PATH: bin } });

test("it unpacks once, and finds the command and Python's libtorch", () => {
  mkdirSync(place("moco", "bin"), { recursive: true });
  program(place("moco", "bin", "moco"), "echo moco with $LIBTORCH in $PWD");
  execFileSync("tar", ["-C", root, "-cJf", place("moco.tar.xz"), "moco"]);
  writeFileSync(place("unpack.sh"), unpackScript({ build: "2.11.0+cu130", digest: "abc" }));
  const { bin } = machine("right", "2.11.0+cu130");
  const there = place("there", "moco");
  expect(source(bin, "moco")).toMatchObject({ status: 0, stdout: `moco with /opt/site/torch in ${there}\n`, stderr: "" });
  expect(readFileSync(join(there, ".unpacked"), "utf8")).toBe("abc\n");

  writeFileSync(join(there, "bin", "moco"), "#!/bin/sh\necho still here\n");
  expect(source(bin, "moco").stdout).toBe("still here\n"); // the same archive again is not unpacked
  writeFileSync(place("unpack.sh"), unpackScript({ build: "2.11.0+cu130", digest: "def" }));
  expect(source(bin, "moco").stdout).toContain("moco with");
});

test("where there is no xz, Python unpacks", () => {
  const { bin, calls } = machine("without-xz", "2.11.0+cu130");
  execFileSync("rm", [join(bin, "xz")]);
  writeFileSync(place("unpack.sh"), unpackScript({ build: "2.11.0+cu130", digest: "ghi" }));
  source(bin, "true");
  expect(readFileSync(calls, "utf8")).toContain(`-m tarfile -e ${place("moco.tar.xz")} ${place("there")}`);
});

test("another torch is refused, before anything is unpacked", () => {
  const { bin } = machine("wrong", "2.11.0+cu128");
  execFileSync("rm", ["-r", place("there")]);
  expect(source(bin, "moco")).toMatchObject({ status: 1, stderr: "error: the addon was built for torch 2.11.0+cu130, and Python has torch 2.11.0+cu128\n" });
  expect(existsSync(place("there"))).toBe(false);
});
