import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import sharp from "sharp";
import ts from "typescript";
import { fixturePath } from "./support/fixtures.js";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../../", import.meta.url));
const readme = readFileSync(join(root, "README.md"), "utf8");
const blocks = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map((match) => match[1] as string);
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "moco-readme-"));
  mkdirSync(join(folder, "node_modules"));
  mkdirSync(join(folder, "photos"));
  symlinkSync(root, join(folder, "node_modules", "moco-v3"));
  cpSync(fixturePath("augment/files/china.jpg"), join(folder, "photos", "cat.jpg"));
  cpSync(fixturePath("augment/files/flower.jpg"), join(folder, "photos", "dog.jpg"));
  const photograph = sharp(fixturePath("augment/files/china.jpg"));
  for (let i = 0; i < 62; i++) {
    const piece = photograph.clone().extract({ left: 8 * i, top: 4 * i, width: 120, height: 90 });
    await piece.jpeg().toFile(join(folder, "photos", `${i}.jpg`));
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a code block of the README as it is printed, in a folder with `photos`. */
async function runBlock(code: string, name: string): Promise<string> {
  const options = { module: ts.ModuleKind.ES2022, target: ts.ScriptTarget.ES2022 };
  writeFileSync(join(folder, name), ts.transpileModule(code, { compilerOptions: options }).outputText);
  const { stdout } = await run(process.execPath, [name], { cwd: folder });
  return stdout;
}

test("the README's example of training and embedding runs as printed", async () => {
  const [training] = blocks;
  expect(training).toContain("pretrain");
  const lines = (await runBlock(training as string, "training.mjs")).trim().split("\n");
  expect(lines).toHaveLength(5); // 64 images in batches of 32, two epochs, and the similarity
  expect(lines[0]).toMatch(/^step 0: loss \d\.\d{3}$/);
  const similarity = Number(/^similarity (.*)$/.exec(lines[4] as string)?.[1]);
  expect(similarity).toBeGreaterThan(-1);
  expect(similarity).toBeLessThan(0.99999);
}, 180_000);

test("the README's example of tensors runs as printed", async () => {
  expect(await runBlock(blocks[1] as string, "tensors.mjs")).toMatch(/^tensor\(\[\[.*dtype=float64\) -?[\d.]+\n$/s);
});
