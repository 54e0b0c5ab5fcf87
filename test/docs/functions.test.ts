/** docs/functions.md: its blocks are run as they are printed. */
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { readPage, ReadersFolder, testBlocks, testLinks, testPrograms } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();
const page = readPage("functions.md");

testLinks(page);
testBlocks(page, { ts: (code) => folder.runTypeScript(code) });
testPrograms(page, folder);
