/** Every command and program that docs/serving.md shows is run as it is printed, and must print what the page says. */
import { copyFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { beforeAll } from "@jest/globals";
import { addPrefix, OrderedDict, writeCheckpoint } from "../../lib/checkpoint/index.js";
import { createModel } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import { fixturePath } from "../support/fixtures.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { readPage, ReadersFolder, root, testBlocks } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();

beforeAll(async () => {
  await folder.writePhotos();
  symlinkSync(join(root, "node_modules", "onnxruntime-node"), join(folder.path, "node_modules", "onnxruntime-node"));
  copyFileSync(fixturePath("checkpoints/lincls_vit_legacy.pth.tar"), join(folder.path, "probe.pth.tar"));
  torch.manualSeed(0);
  const vit = createModel("vit_small", { numClasses: 0 });
  const state = addPrefix(new OrderedDict(vit.stateDict()), "module.base_encoder.");
  await writeCheckpoint(join(folder.path, "vit-s-300ep.pth.tar"), { epoch: 300, arch: "vit_small", state_dict: state });
  vit.dispose();
}, 180_000);

testBlocks(readPage("serving.md"), { sh: (code) => folder.runShell(code), ts: (code) => folder.runTypeScript(code) });
