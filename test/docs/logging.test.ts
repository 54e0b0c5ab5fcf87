/** docs/logging.md: its commands and programs are run as they are printed. */
import { cpSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll } from "@jest/globals";
import { readPage, ReadersFolder, testBlocks, testLinks, testPrograms } from "./docsPage.js";

const folder = new ReadersFolder();
const page = readPage("logging.md");

beforeAll(async () => {
  await folder.writePhotos();
  folder.writeTinyRecipe();
  for (const [i, name] of readdirSync(join(folder.path, "photos")).entries()) {
    const to = join(folder.path, "labelled", i % 4 === 0 ? "val" : "train", i % 3 === 0 ? "sky" : "roof");
    mkdirSync(to, { recursive: true });
    cpSync(join(folder.path, "photos", name), join(to, name));
  }
});

testLinks(page);
testPrograms(page, folder);
// There are no servers of TensorBoard or MLflow here.
testBlocks(page, { sh: (code) => folder.runShell(code), ts: (code) => folder.runTypeScript(code), bash: null });
