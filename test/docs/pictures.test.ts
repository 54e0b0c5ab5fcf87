/** Every command and program that docs/pictures.md shows is run as it is printed, and must print what the page says. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { readPage, ReadersFolder, root, testBlocks, testLinks } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();
const page = readPage("pictures.md");
beforeAll(() => folder.writePhotos());

testBlocks(page, { sh: (code) => folder.runShell(code), ts: (code) => folder.runTypeScript(code) });
testLinks(page);

test("its pictures are small", () => {
  const pictures = [...page.text.matchAll(/!\[.+?\]\((images\/.+?)\)/g)].map(([, path]) => path!);
  expect(pictures).toHaveLength(3);
  for (const path of pictures) expect(statSync(join(root, "docs", path)).size).toBeLessThan(102_400);
});
