/** docs/restart.md: its commands are run as they are printed. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll } from "@jest/globals";
import { readPage, ReadersFolder, testBlocks, testLinks } from "./docsPage.js";

const folder = new ReadersFolder();
const page = readPage("restart.md");

beforeAll(async () => {
  await folder.writePhotos();
  writeFileSync(join(folder.path, "recipe.json"),
    '{ "arch": "vit_small", "image-size": 32, "batch-size": 32, "epochs": 1, "moco-dim": 16, "moco-mlp-dim": 64, "moco-t": 0.2, "seed": 0 }\n');
});

testLinks(page);
testBlocks(page, { sh: (code) => folder.runShell(code), bash: null }); // there is no Slurm here
