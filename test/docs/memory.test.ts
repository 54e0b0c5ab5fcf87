/** docs/memory.md: its blocks are run as they are printed. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll } from "@jest/globals";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { readPage, ReadersFolder, testBlocks, testLinks, testPrograms } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();
const page = readPage("memory.md");

beforeAll(async () => {
  await folder.writePhotos();
  writeFileSync(join(folder.path, "recipe.json"),
    '{ "arch": "vit_small", "image-size": 32, "batch-size": 32, "epochs": 1, "moco-dim": 16, "moco-mlp-dim": 64, "moco-t": 0.2, "seed": 0 }\n');
});

testLinks(page);
testBlocks(page, { sh: (code) => folder.runShell(code), ts: (code) => folder.runTypeScript(code) });
testPrograms(page, folder);
