/** Every command and program that docs/stability.md shows is run as it is printed, and must print what the page says. */
import { beforeAll, expect, test } from "@jest/globals";
import { Command } from "commander";
import { addPretrainFlags, type PretrainFlags } from "../../lib/cli/pretrainFlags.js";
import { LEAST_VALUES } from "../../lib/train/stability/runningMedian.js";
import { MOST_ROLLBACKS, MOST_SKIPS, SKIP_WINDOW } from "../../lib/train/stability/spikePolicy.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { readPage, ReadersFolder, testBlocks, testLinks } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();
const page = readPage("stability.md");
beforeAll(() => folder.writePhotos());

testBlocks(page, { sh: (code) => folder.runShell(code), ts: (code) => folder.runTypeScript(code) });
testLinks(page);

test("the numbers in its sentences are the program's", () => {
  expect([LEAST_VALUES, MOST_SKIPS, SKIP_WINDOW, MOST_ROLLBACKS]).toEqual([20, 10, 100, 3]);
  for (const words of ["first twenty steps", "Ten skipped steps among a hundred", "three rollbacks"]) expect(page.text).toContain(words);
  const command = addPretrainFlags(new Command("pretrain").argument("<DIR>").exitOverride());
  const { spikeRatio, rollbackSteps, onSpike } = command.parse(["photos"], { from: "user" }).opts<PretrainFlags>();
  expect([spikeRatio, rollbackSteps, onSpike]).toEqual([10, 100, "warn"]);
});
