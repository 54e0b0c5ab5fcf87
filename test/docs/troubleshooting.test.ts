/** docs/troubleshooting.md knows every error of the package, and its messages are those that the package gives. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { readPage, root, testLinks } from "./docsPage.js";

const page = readPage("troubleshooting.md");
/** Never leave the package. */
const INTERNAL = ["Aborted", "TruncatedPickle", "BootstrapError", "InlineError"];

const sources = readdirSync(join(root, "lib"), { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && /\.(ts|mjs)$/.test(entry.name) && !entry.name.includes(".generated."))
  .map((entry) => readFileSync(join(entry.parentPath, entry.name), "utf8"));
const messages = [...sources, readFileSync(join(root, "scripts/bootstrap.mjs"), "utf8")].join("\n");

testLinks(page);

test("every error class of the package is on the page, and no other", () => {
  const classes = [...messages.matchAll(/class (\w+) extends \w*Error\b|class (TruncatedPickle) /g)].map(([, name, other]) => name ?? other!);
  const expected = [...new Set(classes)].filter((name) => !INTERNAL.includes(name));
  const named = new Set([...page.text.matchAll(/\b[A-Z]\w*Error\b/g)].map(([name]) => name));
  expect(expected.filter((name) => !named.has(name))).toEqual([]);
  expect([...named].filter((name) => !expected.includes(name))).toEqual([]);
  expect(expected.length).toBeGreaterThan(50);
});

test("the messages that it quotes are in the sources", () => {
  // Commander's own, libtorch's own.
  const others = ["unknown option", "unknown command", "CUDA out of memory"];
  const cells = [...page.text.matchAll(/^\| ([^|]*) \|/gm)].map(([, cell]) => cell!);
  const quoted = cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].flatMap(([, words]) => words!.split("…").map((part) => part.trim())));
  const missing = quoted.filter((words) => words.length > 6 && !others.includes(words) && !messages.includes(words));
  expect(missing).toEqual([]);
  expect(quoted.length).toBeGreaterThan(50);
});
