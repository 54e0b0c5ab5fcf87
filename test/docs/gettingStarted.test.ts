/** docs/getting-started.md, concepts.md and architecture.md: their commands and programs are run as they are printed. */
import { beforeAll, describe } from "@jest/globals";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { readPage, ReadersFolder, testBlocks, testLinks } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();

beforeAll(async () => {
  await folder.writePhotos();
  folder.writeTinyRecipe("resnet18");
});

const sh = (code: string) => folder.runShell(code);
const ts = (code: string) => folder.runTypeScript(code);
describe("getting started", () => {
  const page = readPage("getting-started.md");
  testLinks(page);
  testBlocks(page, { sh, ts, bash: null }); // hours of training: test/docs/everyPage.test.ts has their flags read
});
for (const name of ["concepts.md", "architecture.md"]) {
  describe(name, () => {
    const page = readPage(name);
    testLinks(page);
    testBlocks(page, { ts });
  });
}
describe("index", () => testLinks(readPage("README.md")));
