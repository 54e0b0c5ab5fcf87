import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { soak } from "../../scripts/faults/soak/soak.js";
import { PoweredFolder } from "../../scripts/faults/soak/powerCut.js";
import { TRAININGS } from "../../scripts/faults/soak/trainings.js";
import { Random } from "../../scripts/fuzz/random.js";
import { startCommand } from "../cli/moco.js";

let root: string;
beforeAll(() => void (root = mkdtempSync(join(tmpdir(), "moco-power-"))));
afterAll(() => rmSync(root, { recursive: true, force: true }));

test("a training that is stopped at random, by signals, kills and power cuts, ends with the bytes and the log of an undisturbed one", async () => {
  const { kills, runs, violations } = await soak({ kills: 5, seed: 3, trainings: TRAININGS.slice(0, 1) });
  expect(violations).toEqual([]);
  expect(kills).toBe(5);
  const [run] = Object.values(runs);
  expect(run!.ended).toBeGreaterThan(0);
  expect(run!.equal).toBe(run!.ended);
}, 120_000);

test("with other numbers of compute threads it ends within what float64 rounds", async () => {
  const training = TRAININGS.find(({ name }) => /^ViT.*float64, 1 or 2/.test(name))!;
  const { runs, violations } = await soak({ kills: 1, seed: 2, trainings: [{ ...training, drawn: () => ["-j", "1", "--threads", "2"] }] });
  expect(violations).toEqual([]); // among them any distance above 1e-9
  const [run] = Object.values(runs);
  expect(run!.ended).toBeGreaterThan(0);
  expect(run!.distance!.weights).toBeGreaterThan(0); // there was something to round
}, 120_000);

test("a power cut takes away what was not fsynced, and nothing else", async () => {
  const seen = new Set<string>();
  for (let i = 0; i < 12; i++) {
    const folder = new PoweredFolder(join(root, `out-${i}`), join(root, `scratch-${i}`));
    writeFileSync(join(root, "work.mjs"), `
      import { open, rename } from "node:fs/promises";
      import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
      const folder = ${JSON.stringify(folder.path)};
      const syncFolder = async () => { const handle = await open(folder); await handle.sync(); await handle.close(); };
      const safe = openSync(folder + "/safe", "w");
      writeSync(safe, "kept ");
      fsyncSync(safe);
      closeSync(safe);
      await rename(folder + "/safe", folder + "/renamed");
      await syncFolder();
      const again = openSync(folder + "/renamed", "a");
      writeSync(again, "lost");
      const fresh = openSync(folder + "/fresh", "w");
      writeSync(fresh, "new");
    `);
    const { code, stderr } = await startCommand(process.execPath, [...folder.nodeArguments, join(root, "work.mjs")]);
    expect([code, stderr]).toEqual([0, ""]);
    folder.cut(new Random(5, i));
    const names = readdirSync(folder.path).sort();
    expect(names).toContain("renamed");
    expect(names).not.toContain("safe");
    const content = readFileSync(join(folder.path, "renamed"), "latin1");
    expect(content.slice(0, 5)).toBe("kept ");
    seen.add(names.join());
    seen.add(content);
  }
  // Without and with the name that was not safe, and with the bytes that were not safe there, gone and in between.
  for (const each of ["renamed", "fresh,renamed", "kept ", "kept lost"]) expect([...seen]).toContain(each);
}, 60_000);
