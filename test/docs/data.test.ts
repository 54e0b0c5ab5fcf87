/** Every command and program that docs/data.md shows is run as it is printed, and must print what the page says. */
import { copyFileSync, cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import sharp from "sharp";
import ts from "typescript";
import { ImageFolder, imageEndings } from "../../lib/data/index.js";
import { drawAugmentSheet } from "../../lib/report/augmentSheet.js";
import { fixturePath } from "../support/fixtures.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { readPage, ReadersFolder, root, testBlocks, testLinks } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();
const page = readPage("data.md");

const recipe =
  '{ "arch": "resnet18", "image-size": 32, "batch-size": 32, "epochs": 1, "moco-dim": 16, "moco-mlp-dim": 64, "seed": 0 }\n';

beforeAll(async () => {
  await folder.writePhotos();
  cpSync(fixturePath("augment/files"), join(folder.path, "photographs"), { recursive: true });
  copyFileSync(fixturePath("docs/flower.parquet"), join(folder.path, "flower.parquet"));
  writeFileSync(join(folder.path, "recipe.json"), recipe);
  writePets();
});

/** Four pictures in the layout of the Oxford-IIIT Pet data set. */
function writePets(): void {
  const pets = join(folder.path, "pets");
  for (const name of ["images", "annotations"]) mkdirSync(join(pets, name), { recursive: true });
  for (let i = 0; i < 4; i++) copyFileSync(join(folder.path, "photos", `${i}.jpg`), join(pets, "images", `Abyssinian_${i}.jpg`));
  const lines = (...numbers: number[]): string => numbers.map((i) => `Abyssinian_${i} 1 1 1\n`).join("");
  writeFileSync(join(pets, "annotations", "trainval.txt"), lines(0, 1));
  writeFileSync(join(pets, "annotations", "test.txt"), lines(2, 3));
}

testLinks(page);
testBlocks(page, { sh: (code) => folder.runShell(code), ts: (code) => folder.runTypeScript(code) });

test("the programs fit the package's types", () => {
  const programs = page.blocks.filter(({ language }) => language === "ts").map(({ code }, i) => {
    const path = join(folder.path, `program${i}.mts`);
    writeFileSync(path, code);
    return path;
  });
  const program = ts.createProgram(programs, {
    strict: true, noEmit: true, skipLibCheck: true, target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext, lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts"],
    types: ["node"], typeRoots: [join(root, "node_modules", "@types")],
  });
  const found = ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"));
  expect(programs.length).toBeGreaterThan(1);
  expect(found).toEqual([]);
}, 60_000);

test("the class of one's own is ten lines", () => {
  const [, body] = /^class Archive [^\n]*\n([\s\S]*?)^}$/m.exec(page.text)!;
  expect(body!.trimEnd().split("\n").length + 2).toBeLessThanOrEqual(10);
});

test("the picture is what its command makes", async () => {
  const command = page.text.match(/moco report augment photographs --out augment\.png --rows (\d+) --image-size (\d+) --seed (\d+)/)!;
  const [rows, imageSize, seed] = command.slice(1).map(Number);
  const sheet = await drawAugmentSheet(await ImageFolder.open(join(folder.path, "photographs")), { rows, imageSize, seed });
  const file = readFileSync(join(root, "docs", "images", "augment.png"));
  expect(file.length).toBeLessThan(300_000);
  // Text may look otherwise with other fonts; the views have the same pixels everywhere.
  const { data, info } = await sharp(file).raw().toBuffer({ resolveWithObject: true });
  for (const { pixels } of sheet.rows.flatMap(({ views }) => views)) {
    const bytes = 3 * imageSize!;
    const line = (y: number): Buffer => Buffer.from(pixels.data.buffer, pixels.data.byteOffset + bytes * y, bytes);
    const at = data.indexOf(line(0));
    expect(at).toBeGreaterThan(0);
    for (let y = 1; y < imageSize!; y++) {
      const start = at + y * info.channels * info.width;
      expect(data.subarray(start, start + bytes).equals(line(y))).toBe(true);
    }
  }
});

test("the page names every ending that counts", () => {
  const named = page.text.match(/capital letters: `([^`]+)`/)![1]!.split(/\s+/);
  expect(named.sort()).toEqual([...imageEndings].sort());
});
