/** Every command and program that docs/report.md shows is run as it is printed, and must print what the page says. */
import { beforeAll, expect, test } from "@jest/globals";
import { mostBuckets } from "../../lib/report/run/sampledSteps.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { readPage, ReadersFolder, testBlocks, testLinks } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();
const page = readPage("report.md");
beforeAll(async () => {
  folder.writeTinyRecipe();
  await folder.writePhotos();
});

testBlocks(page, { sh: (code) => folder.runShell(code), ts: (code) => folder.runTypeScript(code) });
testLinks(page);

test("the numbers in its sentences are the program's", () => {
  expect(page.text).toContain(`${mostBuckets} pairs of the lowest and the highest`);
});
