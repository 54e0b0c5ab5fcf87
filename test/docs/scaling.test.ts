/** docs/scaling.md: its command runs as printed, and its tables are what the cost model says now. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import { readConstants } from "../../scripts/scaling/constants.js";
import { withTables } from "../../scripts/scaling/page.js";
import { scalingTables } from "../../scripts/scaling/tables.js";
import { readPage, ReadersFolder, root, testBlocks, testLinks } from "./docsPage.js";

const folder = new ReadersFolder();
const page = readPage("scaling.md");

beforeAll(() => folder.writePhotos());

testLinks(page);
testBlocks(page, { sh: (code) => folder.runShell(code) });

test("the tables are those that npm run scaling writes", () => {
  expect(withTables(page.text, scalingTables(readConstants()))).toBe(readFileSync(join(root, "docs/scaling.md"), "utf8"));
}, 60_000);

test("a table without a place, and a place without a table, are told", () => {
  expect(() => withTables("text\n", { memory: "| a |" })).toThrow(/no place for the tables memory/);
  expect(() => withTables("<!-- table other -->\n<!-- end of table -->\n", {})).toThrow(/"other", which is not made/);
});
