/** docs/evaluation.md: its blocks are run as they are printed, and its figures are those of the runs. */
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import { writeCheckpoint } from "../../lib/checkpoint/index.js";
import { VisionTransformer } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import { startCommand, type Outcome } from "../cli/moco.js";
import { writeDigits } from "../support/digits.js";
import { fixturePath } from "../support/fixtures.js";
import { testPython } from "../support/python.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { readPage, ReadersFolder, section, testBlocks, testLinks } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();
const page = readPage("evaluation.md");

beforeAll(async () => {
  await writeDigits(join(folder.path, "digits"));
  copyFileSync(fixturePath("docs/digits-encoder.pth.tar"), join(folder.path, "encoder.pth.tar"));
  torch.manualSeed(0);
  using random = new VisionTransformer({ imageSize: 16, patchSize: 4, embedDim: 32, depth: 2, numHeads: 4, numClasses: 0 });
  await writeCheckpoint(join(folder.path, "random.pth.tar"), { state_dict: random.stateDict(), moco_v3_run: { num_heads: 4 } });
}, 120_000);

const runners = { sh: (code: string) => folder.runShell(code), ts: (code: string) => folder.runTypeScript(code) };
const runPython = (code: string): Promise<Outcome> =>
  startCommand("/usr/bin/env", ["-u", "PYTHONPATH", testPython!, "-c", code], { cwd: folder.path });

testBlocks(section(page, "kNN"), runners, { tolerance: 8 });
testBlocks(section(page, "Linear probe"), runners, {
  tolerance: 6,
  // The best epoch of a learning rate, and whether the last one is the best.
  without: (output) => output.replaceAll(/^((?: +[\d.]+){4}) +\d+$/gm, "$1").replaceAll(/true|false/g, "BOOLEAN"),
});
testBlocks(section(page, "Fine-tuning"), { ...runners, python: testPython === null ? null : runPython }, { tolerance: 8 });
testLinks(page);

test("every block has its output", () => {
  expect(page.blocks.filter(({ output }) => output === null)).toEqual([]);
});
