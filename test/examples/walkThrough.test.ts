/** The walk through the models, started as a reader would. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "@jest/globals";
import { startCommand } from "../cli/moco.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

const folder = temporaryFolder("walk-through");
const script = fileURLToPath(new URL("../../../examples/walk-through/models.mjs", import.meta.url));

test("prints numbers that hold, and writes its pictures", async () => {
  const { code, stdout, stderr } = await startCommand(process.execPath, [script, "--out", "out"], { cwd: folder });
  expect([code, stderr]).toEqual([0, ""]);
  for (const title of ["1. Position embedding", "2. Initialisation", "3. Frozen patch projection", "4. ConvStem against patchify"]) expect(stdout).toContain(`${title}\n=`);
  expect(stdout).toContain("there are 197 tokens with the class token, of 384 numbers each");
  const numbers = (line: RegExp): number[] => line.exec(stdout)!.slice(1).map(Number);
  const [mean, least, most] = numbers(/^ {2}4 +([\d.]+) +([\d.]+) +([\d.]+)$/m) as [number, number, number];
  expect([least, most]).toEqual([mean, mean]);
  for (const layer of ["patch projection", "query, key, value", "attention's projection", "MLP, first", "MLP, second"]) {
    const [formula, drawn] = numbers(new RegExp(`^ {2}${layer} +\\d+ +\\d+ +([\\d.]+) +([\\d.]+)$`, "m")) as [number, number];
    expect(Math.abs(drawn / formula - 1)).toBeLessThan(0.01);
  }
  expect(stdout).toMatch(/^Trained: gradient of the projection \d.*moves the projection by 1\.\de-3/m);
  expect(stdout).toMatch(/^Frozen : gradient of the projection none.*moves the projection by 0\.0e\+0, the block by 1\.\de-3/m);
  // 3·16·16·384 + 384 parameters; 2·196·384·768 multiplications and additions.
  expect(stdout).toMatch(/^ {2}one projection +0\.30 M +0\.12 +[\d.]+ +196 x 384$/m);
  expect(stdout).toMatch(/^ {2}ConvStem +1\.02 M +0\.87 +[\d.]+ +196 x 384$/m);
  expect(readFileSync(join(folder, "out", "position-embedding.png")).subarray(1, 4).toString()).toBe("PNG");
  expect(readFileSync(join(folder, "out", "filters.html"), "utf8")).toContain("frozen at its random start");
  expect(existsSync(join(folder, "walk-through"))).toBe(false);
});
