/** Runs the code blocks of a page under docs/ as a reader would, and compares with the output that the page shows. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "@jest/globals";
import sharp from "sharp";
import ts from "typescript";
import { mainScript, startCommand, type Outcome } from "../cli/moco.js";
import { fixturePath } from "../support/fixtures.js";

export const root = fileURLToPath(new URL("../../../", import.meta.url));

export interface Block {
  /** How to run it: what stands behind the three backticks. */
  language: string;
  code: string;
  /** What the page shows below it; null where it shows nothing. */
  output: string | null;
  line: number;
}

/** A page, with its code blocks, each with the `text` block that follows it directly. */
export interface Page {
  name: string;
  text: string;
  blocks: Block[];
}

export function readPage(name: string): Page {
  const text = readFileSync(join(root, "docs", name), "utf8");
  const pattern = /^```(.*)\n([\s\S]*?)^```\n(?:\n```text\n([\s\S]*?)^```\n)?/gm;
  const blocks = [...text.matchAll(pattern)].map(({ 1: language, 2: code, 3: output, index }) => ({
    language: language!, code: code!, output: output ?? null, line: text.slice(0, index).split("\n").length,
  }));
  return { name, text, blocks };
}

/** The page's `…` stands for any text in a line, and alone in a line for any lines. */
export function expectation(output: string): RegExp {
  const escaped = output.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
  return new RegExp(`^${escaped.replaceAll(/^ *…\n/gm, "(?:.*\\n)*?").replaceAll("…", ".*")}$`);
}

/** A folder in which a reader follows a page: the package is installed there, and so is its command. */
export class ReadersFolder {
  readonly path = mkdtempSync(join(tmpdir(), "moco-docs-"));

  constructor() {
    for (const name of ["node_modules", "photos", "bin"]) mkdirSync(join(this.path, name));
    symlinkSync(root, join(this.path, "node_modules", "moco-v3"));
    // `npx moco` finds an installed package; here it is the built one.
    writeFileSync(join(this.path, "bin", "npx"), `#!/bin/sh\nshift\nexec "${process.execPath}" "${mainScript}" "$@"\n`);
    chmodSync(join(this.path, "bin", "npx"), 0o755);
    afterAll(() => rmSync(this.path, { recursive: true, force: true }));
  }

  /** `recipe.json`, a pre-training of seconds. */
  writeTinyRecipe(arch = "vit_small"): void {
    writeFileSync(join(this.path, "recipe.json"),
      `{ "arch": "${arch}", "image-size": 32, "batch-size": 32, "epochs": 1, "moco-dim": 16, "moco-mlp-dim": 64, "moco-t": 0.2, "seed": 0 }\n`);
  }

  /** 64 pieces of a photograph as `photos/0.jpg` and so on. */
  async writePhotos(): Promise<void> {
    const photograph = sharp(fixturePath("augment/files/china.jpg"));
    for (let i = 0; i < 64; i++) {
      const piece = photograph.clone().extract({ left: 8 * i, top: 4 * i, width: 120, height: 90 });
      await piece.resize(60, 45).jpeg().toFile(join(this.path, "photos", `${i}.jpg`));
    }
  }

  runShell(code: string): Promise<Outcome> {
    const path = `PATH=${join(this.path, "bin")}:${process.env.PATH}`;
    return startCommand("/usr/bin/env", [path, "bash", "-e", "-o", "pipefail", "-c", code], { cwd: this.path });
  }

  runTypeScript(code: string): Promise<Outcome> {
    const options = { module: ts.ModuleKind.ES2022, target: ts.ScriptTarget.ES2022 };
    writeFileSync(join(this.path, "block.mjs"), ts.transpileModule(code, { compilerOptions: options }).outputText);
    return startCommand(process.execPath, ["block.mjs"], { cwd: this.path });
  }
}

/** A page's part from a heading of the second rank to the next one. */
export function section({ name, text, blocks }: Page, heading: string): Page {
  const lines = text.split("\n");
  const first = lines.indexOf(`## ${heading}`);
  if (first < 0) throw new Error(`docs/${name} has no section "${heading}"`);
  const length = lines.slice(first + 1).findIndex((line) => line.startsWith("## "));
  const last = length < 0 ? lines.length : first + 1 + length;
  const inside = blocks.filter(({ line }) => line > first && line <= last);
  return { name: `${name}, ${heading}`, text: `${lines.slice(first, last).join("\n")}\n`, blocks: inside };
}

export interface OutputComparison {
  /**
   * How far a number may lie from the page's; without it, output must be the same to the letter but for `…`. Other processors round
   * otherwise, which moves some images of a training's figures over the border.
   */
  tolerance?: number;
  /** Takes out of an output what may be quite another. */
  without?: (output: string) => string;
}

/**
 * Adds tests that run the page's blocks in their order, and that no block is of another kind.
 *
 * @param runners how to run each language's blocks; null for what is not there on this machine
 */
export function testBlocks(
  { name, text, blocks }: Page, runners: Record<string, ((code: string) => Promise<Outcome>) | null>, comparison: OutputComparison = {},
): void {
  test(`${name} has blocks of every known kind and of no other`, () => {
    expect([...new Set(blocks.map(({ language }) => language))].sort()).toEqual(Object.keys(runners).sort());
    expect(blocks.length).toBeGreaterThan(0);
    // All that is fenced was found: two fences for each block, and two for each output.
    const fences = text.match(/^```/gm)!.length;
    expect(fences).toBe(2 * (blocks.length + blocks.filter(({ output }) => output !== null).length));
  });

  describe(`docs/${name}`, () => {
    for (const { language, code, output, line } of blocks) {
      const runner = runners[language];
      (runner ? test : test.skip)(`line ${line}: ${code.trim().split("\n")[0]}`, async () => {
        const outcome = await runner!(code);
        if (outcome.code !== 0) throw new Error(`exit code ${outcome.code}\n${outcome.stdout}${outcome.stderr}`);
        if (output !== null) expectOutput(outcome.stdout, output, comparison);
      }, 240_000);
    }
  });
}

function expectOutput(actual: string, expected: string, { tolerance, without = (output) => output }: OutputComparison): void {
  if (tolerance === undefined) return expect(actual).toMatch(expectation(expected));
  const number = /(?<![\w-])\d+(\.\d+)?/g;
  const [[words, numbers], [expectedWords, expectedNumbers]] = [actual, expected].map(without).map((output) =>
    [output.replaceAll(number, "#").replaceAll(/ +/g, " "), [...output.matchAll(number)].map(([digits]) => Number(digits))] as const,
  ) as [readonly [string, number[]], readonly [string, number[]]];
  expect(words).toBe(expectedWords);
  const far = numbers.filter((value, i) => !(Math.abs(value - expectedNumbers[i]!) <= tolerance));
  if (far.length > 0) throw new Error(`${far.join(", ")}: further than ${tolerance} from the page's figures\n${actual}\nThe page has:\n${expected}`);
}

/** Adds a test that the files which a page names and leads to are there. */
export function testLinks({ name, text }: Page): void {
  test(`files that ${name} names are there`, () => {
    const results = [...text.matchAll(/benchmarks\/results\/[\w-]+\.json/g)].map(([path]) => join(root, path));
    const linked = [...text.matchAll(/\]\(([\w./-]+)(?:#[\w-]+)?\)/g)].map(({ 1: path }) => join(root, "docs", path!));
    for (const path of [...results, ...linked]) expect(() => readFileSync(path)).not.toThrow();
  });
}

/** Adds a test that a page's programs fit the types of the package that is installed in the reader's folder. */
export function testPrograms({ name, blocks }: Page, folder: ReadersFolder): void {
  test(`the programs of ${name} fit the package's types`, () => {
    const programs = blocks.filter(({ language }) => language === "ts").map(({ code }, i) => {
      const path = join(folder.path, `program${i}.mts`);
      writeFileSync(path, code);
      return path;
    });
    const program = ts.createProgram(programs, {
      strict: true, noEmit: true, skipLibCheck: true, target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.NodeNext,
      moduleResolution: ts.ModuleResolutionKind.NodeNext, lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts"],
      types: ["node"], typeRoots: [join(root, "node_modules", "@types")],
    });
    const found = ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"));
    expect(programs.length).toBeGreaterThan(1);
    expect(found).toEqual([]);
  }, 60_000);
}
