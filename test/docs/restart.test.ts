/** docs/restart.md: its commands are run as they are printed. */
import { beforeAll } from "@jest/globals";
import { readPage, ReadersFolder, testBlocks, testLinks } from "./docsPage.js";

const folder = new ReadersFolder();
const page = readPage("restart.md");

beforeAll(async () => {
  await folder.writePhotos();
  folder.writeTinyRecipe();
});

testLinks(page);
testBlocks(page, { sh: (code) => folder.runShell(code), bash: null }); // there is no Slurm here
