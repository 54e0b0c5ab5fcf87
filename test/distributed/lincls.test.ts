/** A linear probe in several processes is that of one. */
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { freePort } from "../../scripts/exactness/runRanks.js";
import { readRunLog } from "../../lib/report/index.js";
import { startMoco } from "../cli/moco.js";
import { writeDigits } from "../support/digits.js";
import { fixturePath } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();
const folder = temporaryFolder("lincls-ranks");

interface Probe {
  acc1: number;
  loss: number;
  images: number;
  steps: number;
}

test("two processes train and judge as one", async () => {
  await writeDigits(join(folder, "digits"));
  const words = ["lincls", "digits", "--pretrained", fixturePath("docs/digits-encoder.pth.tar"), "--seed", "0", "--json", "--quiet", "--device", "cpu"];
  const settings = "--epochs 2 -b 64 --lr 0.3 --threads 1 -j 1".split(" ");
  const run = (out: string, more: string[]) => startMoco([...words, ...settings, "--out", out, ...more], { cwd: folder });
  const port = await freePort();
  const ranks = [0, 1].map((rank) => run("two", `--dist-url tcp://127.0.0.1:${port} --world-size 2 --rank ${rank}`.split(" ")));
  const [one, first, second] = await Promise.all([run("one", []), ...ranks]);
  for (const { code, stderr } of [one, first!, second!]) if (code !== 0) throw new Error(`exit code ${code}\n${stderr}`);
  expect(second!.stdout).toBe("");
  const [found, expected] = [first!, one].map(({ stdout }) => JSON.parse(stdout) as Probe) as [Probe, Probe];
  expect([found.images, found.steps]).toEqual([expected.images, expected.steps]);
  expect(Math.abs(found.loss / expected.loss - 1)).toBeLessThan(1e-3); // float32
  expect(Math.abs(found.acc1 - expected.acc1)).toBeLessThan(0.5);
  const losses = ["two", "one"].map((name) => readRunLog(join(folder, name, "log.jsonl")).steps.map(({ loss }) => loss)) as [number[], number[]];
  expect(losses[0]).toHaveLength(46); // the last of an epoch has 29 images, which two processes cannot share evenly
  losses[0].forEach((loss, i) => expect(Math.abs(loss / losses[1][i]! - 1)).toBeLessThan(1e-4));
}, 120_000);
