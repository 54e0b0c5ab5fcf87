/**
 * The rule that every code block is run: each page with blocks has its test, and the few blocks that cannot run here are listed with the reason;
 * their commands are at least read by the parsers of the commands.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { describe, expect, test } from "@jest/globals";
import type { CommandFile } from "../../lib/cli/main.js";
import { root } from "./docsPage.js";

/** Blocks that are read and not run, by page and kind. */
const NOT_RUN: Record<string, string> = {
  "README.md sh": "minutes to hours of training; docs/getting-started.md has the same commands run with a tiny network",
  "CONTRIBUTING.md sh": "npm's own commands: the tests would run themselves",
  "docs/getting-started.md bash": "hours of training",
  "docs/distributed.md bash": "two hosts with GPUs, torchrun or Slurm; test/distributed runs moco launch",
  "docs/restart.md bash": "Slurm",
  "docs/native.md sh": "builds the addon and libtorch's users under AddressSanitizer, which takes an hour",
  "examples/browser-embed/README.md sh": "a server that does not end: test/examples/browserEmbed.test.ts starts it",
  "examples/similar-images/README.md sh": "a server that does not end: test/examples/similarImages.test.ts starts it",
};

const markdownIn = (folder: string): string[] =>
  readdirSync(join(root, folder)).filter((name) => name.endsWith(".md")).map((name) => join(folder, name));
const pages = [...markdownIn("."), ...markdownIn("docs"), ...markdownIn("recipes"),
  ...readdirSync(join(root, "examples")).map((name) => join("examples", name, "README.md")).filter((path) => existsSync(join(root, path)))];
const blocks = pages.flatMap((page) =>
  [...readFileSync(join(root, page), "utf8").matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)]
    .map(([, language, code]) => ({ page, language: language!, code: code!, key: `${page} ${language}` }))
    .filter(({ language }) => language !== "text"));

/** Sources of the tests of pages: what a page's test reads and which kinds of blocks it runs. */
const tests = ["test/docs", "test", "test/examples"].flatMap((folder) =>
  readdirSync(join(root, folder)).filter((name) => name.endsWith(".test.ts") && name !== "everyPage.test.ts").map((name) => readFileSync(join(root, folder, name), "utf8")));

test("each page with blocks that are run has a test, and what is not run is listed and there", () => {
  const run = blocks.filter(({ key }) => !(key in NOT_RUN));
  const untested = [...new Set(run.map(({ page }) => page))].filter((page) => {
    const name = page.split("/").at(-1)!;
    return !tests.some((source) => source.includes(`"${name}"`) && (page.startsWith("docs/") || !source.includes("readPage")));
  });
  expect(untested).toEqual([]);
  expect(Object.keys(NOT_RUN).filter((key) => !blocks.some((block) => block.key === key))).toEqual([]);
  // Only these kinds are known to the tests of pages, which fail on a kind that they do not run.
  expect([...new Set(blocks.map(({ language }) => language))].sort()).toEqual(["bash", "python", "sh", "ts"]);
});

/** Words of a shell's line, quotes taken off. */
function wordsOf(line: string): string[] {
  return [...line.matchAll(/(?:\$\([^)]*\)|[^\s"']|"[^"]*"|'[^']*')+/g)].map(([word]) => word.replaceAll(/"([^"]*)"|'([^']*)'/g, "$1$2"));
}

/** The commands of a shell block, each as its words. */
function commandsOf(code: string): string[][] {
  return code.replaceAll(/\s*\\\n\s*/g, " ").split("\n").map((line) => line.replace(/(^|\s)#.*$/, ""))
    .flatMap((line) => line.split(/\s(?:&&|\|\|?|;)\s/)).map(wordsOf).filter((words) => words.length > 0);
}

/** Has the command's own parser read the words, without doing anything. */
async function parse(words: readonly string[]): Promise<void> {
  const [name, ...rest] = words;
  const program = new Command("moco").exitOverride().configureOutput({ writeErr: () => {} });
  ((await import(`../../lib/cli/${name}.js`)) as CommandFile).register(program);
  const silence = (command: Command): void => {
    command.exitOverride().action(() => {});
    command.commands.forEach(silence);
  };
  program.commands.forEach(silence);
  await program.parseAsync(words, { from: "user" });
  const behind = rest.indexOf("--");
  if (name === "launch") await parse(rest.slice(behind + 1));
}

describe("commands of blocks that are not run are read", () => {
  const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { scripts: Record<string, string> };
  const found = blocks.filter(({ key }) => key in NOT_RUN).flatMap(({ page, code }) => commandsOf(code).map((words) => ({ page, words })));
  test.each(found.map(({ page, words }) => ({ title: `${page}: ${words.join(" ").slice(0, 70)}`, words })))("$title", async ({ words }) => {
    const moco = words.findIndex((word) => /(^|\/)moco$/.test(word));
    if (moco >= 0) return parse(words.slice(moco + 1));
    if (words[0] === "npm") return expect(words[1] === "run" ? scripts[words[2]!] : ["test", "install"].includes(words[1]!)).toBeTruthy();
    // Other programs, each known here by name, with the files that it is given.
    expect(words.find((word) => !/^\w+=/.test(word))).toMatch(/^(cmake|node|curl|torchrun)$/);
    for (const file of words.filter((word) => /^(examples|dist|lib|scripts)\/.*\.m?js$/.test(word))) expect(existsSync(join(root, file))).toBe(true);
  });
  test("there are some", () => expect(found.length).toBeGreaterThan(10));
});

test("a flag that does not exist is found", async () => {
  await expect(parse(["pretrain", "photos", "--no-such-flag"])).rejects.toThrow(/unknown option/);
  await expect(parse(["launch", "--nproc", "2", "--", "pretrain", "photos", "--no-such-flag"])).rejects.toThrow(/unknown option/);
  expect(commandsOf("npx moco a 'b c' \\\n  d # e\nx && y | z\n")).toEqual([["npx", "moco", "a", "b c", "d"], ["x"], ["y"], ["z"]]);
});

test("the index leads to every page", () => {
  const index = readFileSync(join(root, "docs/README.md"), "utf8");
  const names = readdirSync(join(root, "docs")).filter((name) => name.endsWith(".md") && name !== "README.md");
  expect(names.filter((name) => !index.includes(`](${name})`))).toEqual([]);
});

test("files that the top pages lead to are there", () => {
  for (const page of pages.filter((path) => !path.startsWith("docs/"))) {
    const links = [...readFileSync(join(root, page), "utf8").matchAll(/\]\(([\w./-]+)(?:#[\w-]+)?\)/g)].map(([, path]) => path!);
    const missing = links.filter((path) => !existsSync(join(root, page, "..", path)));
    expect([page, missing]).toEqual([page, []]);
  }
});
