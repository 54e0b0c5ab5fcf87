/**
 * The hot kernels are vectorised: their machine code is read back from the addon. A change after which the compiler falls back to
 * one pixel at a time gives the same pixels, several times slower; only this test sees it.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { packageRoot } from "../../lib/setup/packageRoot.js";

const addon = join(packageRoot, "build", "Release", "moco.node");

function output(command: string, args: string[]): string | null {
  const { status, stdout } = spawnSync(command, [...args, addon], { encoding: "utf8", maxBuffer: 1 << 28 });
  return status === 0 ? stdout : null;
}

/** Why the machine code cannot be judged here, or null. */
function whyNot(): string | null {
  if (process.platform !== "linux" || process.arch !== "x64") return "only for x86-64 Linux";
  if (!existsSync(addon)) return "the addon is a prebuilt one";
  const symbols = output("nm", []);
  if (symbols === null || output("objdump", ["--file-headers"]) === null) return "binutils are missing";
  if (/__[at]san_/.test(symbols)) return "built with a sanitizer";
  return null;
}

const reason = whyNot();
const isGcc = reason === null && !/clang/.test(output("objdump", ["--full-contents", "--section=.comment"]) ?? "");

interface Instruction {
  at: number;
  name: string;
  operands: string;
}

/** Names of the addon's own functions, demangled, with where they lie. */
const functions = new Map<string, { from: number; to: number }>();
if (reason === null) {
  for (const line of output("nm", ["--demangle", "--print-size", "--defined-only"])!.split("\n")) {
    const [, at, size, name] = /^([0-9a-f]+) ([0-9a-f]+) [tTiW] (.*)$/.exec(line) ?? [];
    if (name?.includes("moco::image::")) functions.set(name, { from: parseInt(at!, 16), to: parseInt(at!, 16) + parseInt(size!, 16) });
  }
}

/** All of them in one go, from the first to the last. */
let everything: Instruction[] | undefined;

function disassemble(): Instruction[] {
  const ranges = [...functions.values()];
  const from = Math.min(...ranges.map((each) => each.from));
  const to = Math.max(...ranges.map((each) => each.to));
  const lines = output("objdump", ["--disassemble", "--no-show-raw-insn", `--start-address=${from}`, `--stop-address=${to}`])!.split("\n");
  return lines.flatMap((line) => {
    const [, at, name, operands] = /^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$/.exec(line) ?? [];
    return name === undefined ? [] : [{ at: parseInt(at!, 16), name, operands: operands! }];
  });
}

function codeIn({ from, to }: { from: number; to: number }): Instruction[] {
  everything ??= disassemble();
  return everything.filter(({ at }) => at >= from && at < to);
}

/** What lies between a jump back and its target. */
function loops(code: Instruction[]): Instruction[][] {
  return code.flatMap((jump) => {
    const target = jump.name.startsWith("j") ? parseInt(jump.operands, 16) : NaN;
    return target <= jump.at ? [code.filter(({ at }) => at >= target && at <= jump.at)] : [];
  });
}

/** Multiplications, divisions and conversions of one value, which are the work that a kernel does for all of them. */
const scalar = /^(v?(mul|div|add|sub|cvt\w*)s[sd]\w*|imul|mul|div|idiv)$/;

/** The smallest loop in which each instruction works on whole 256-bit registers. */
function vectorLoop(code: Instruction[], wanted: readonly string[]): Instruction[] | undefined {
  const has = (loop: Instruction[], name: string): boolean => loop.some((each) => each.name === name && each.operands.includes("%ymm"));
  return loops(code).filter((loop) => wanted.every((name) => has(loop, name))).sort((a, b) => a.length - b.length)[0];
}

function codeOf(kernel: RegExp): Instruction[] {
  const names = [...functions.keys()].filter((name) => kernel.test(name));
  if (names.length !== 1) throw new Error(`${names.length} functions match ${kernel}: ${names.join(", ")}`);
  return codeIn(functions.get(names[0]!)!);
}

/** Written with intrinsics, for every compiler. */
const written: [name: string, kernel: RegExp, instructions: string[]][] = [
  ["resize along rows", /::resizeBlockAvx2\(/, ["vpmulld", "vpaddd", "vpackuswb"]],
  ["resize down columns", /::blendRowsAvx2\(/, ["vpmulld", "vpaddd", "vpackuswb"]],
  ["brightness and contrast", /::blendWithConstantAvx2\(/, ["vmulps", "vaddps", "vcvttps2dq", "vpackuswb"]],
  ["saturation", /::blendWithLumaAvx2\(/, ["vpmulld", "vmulps", "vcvttps2dq", "vpackuswb"]],
  ["blur of radius 1", /::boxRow1Avx2\(/, ["vpaddw", "vpmulld", "vpackusdw"]],
  ["mean of the luma", /::lumaSumAvx2\(/, ["vpmulld", "vpaddd"]],
  ["grayscale", /::lumaPlaneAvx2\(/, ["vpmulld", "vpackuswb"]],
  ["order of the channels for the hue", /::shiftHueAvx2\(/, ["vpmaxub", "vpminub", "vpblendvb"]],
  ["RGB to HSV", /::shiftHueAvx2\(/, ["vdivps", "vmulps", "vcvttps2dq", "vpackuswb"]],
  ["HSV to RGB", /::shiftHueAvx2\(/, ["vpabsw", "vpmullw", "vmulps", "vpackuswb"]],
  ["normalise", /::normalizeAvx2<false>\(/, ["vmulps", "vdivps"]],
  ["flip and normalise", /::normalizeAvx2<true>\(/, ["vpermd", "vmulps", "vdivps"]],
  ["shear along rows, bicubic", /::transformRowAvx2<.*Interpolation\)1, .*Along\)0>\(/, ["vmulpd", "vaddpd"]],
  ["shear along columns, bilinear", /::transformRowAvx2<.*Interpolation\)0, .*Along\)1>\(/, ["vmulpd", "vaddpd"]],
  ["rotate, bicubic", /::transformRowAvx2<.*Interpolation\)1, .*Along\)2>\(/, ["vmulpd", "vaddpd"]],
  ["flip", /::reverseAvx2\(/, ["vpshufb"]],
];

/** Plain loops that GCC compiles for AVX2 and for the baseline. */
const cloned: typeof written = [
  ["blur of radius 0", /::boxRow0\(.*\.avx2/, ["vpmullw", "vpmulhw", "vpaddw"]],
  ["blur of any radius", /::boxRowAny\(.*\.avx2/, ["vpmulld", "vpackusdw"]],
  ["running sums of a blur", /::slide\(.*\.avx2/, ["vpaddd"]],
  ["widen for a blur", /::widen\(.*\.avx2/, ["vpmovzxbw"]],
  ["narrow after a blur", /::narrow\(.*\.avx2/, ["vpackuswb"]],
  ["solarize", /::invertFrom\(.*\.avx2/, ["vpxor"]],
  ["range of auto contrast", /::rangeOf\(.*\.avx2/, ["vpminub", "vpmaxub"]],
  ["posterize", /::keepBits\(.*\.avx2/, ["vpand"]],
  ["add to the dark", /::addBelow\(.*\.avx2/, ["vpminub"]],
  ["sharpen", /::sharpenRow\(.*\.avx2/, ["vmulps", "vaddps", "vcvttps2dq"]],
  ["normal noise", /::normalBatch\(.*\.avx2/, ["vsqrtps", "vmulps"]],
  ["generator of the noise", /::normalBatch\(.*\.avx2/, ["vpmuludq", "vpxor"]],
  ["CMYK to RGB", /::cmykToRgb\(.*\.avx2/, ["vpmullw", "vpackuswb"]],
];

(reason === null ? describe : describe.skip)(`the machine code has vectors${reason === null ? "" : ` (${reason})`}`, () => {
  const check = (_: string, kernel: RegExp, instructions: string[]): void => {
    const loop = vectorLoop(codeOf(kernel), instructions);
    expect(loop).toBeDefined();
    expect(loop!.filter(({ name }) => scalar.test(name))).toEqual([]);
  };
  test.each(written)("%s", check);
  (isGcc ? test : test.skip).each(cloned)("%s", check);

  test("no multiplication is fused with an addition, which would round once instead of twice", () => {
    const fused = [...functions].flatMap(([name, range]) =>
      codeIn(range).filter((each) => /^vfn?m(add|sub)/.test(each.name)).map((each) => `${name}: ${each.name}`));
    expect(fused).toEqual([]);
  });
});
