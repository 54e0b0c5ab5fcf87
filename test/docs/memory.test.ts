/** docs/memory.md: its blocks are run as they are printed. */
import { beforeAll } from "@jest/globals";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { readPage, ReadersFolder, testBlocks, testLinks, testPrograms } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();
const page = readPage("memory.md");

beforeAll(async () => {
  await folder.writePhotos();
  folder.writeTinyRecipe();
});

testLinks(page);
testBlocks(page, { sh: (code) => folder.runShell(code), ts: (code) => folder.runTypeScript(code) });
testPrograms(page, folder);
