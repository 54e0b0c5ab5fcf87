/** Every command and program that docs/checkpoints.md shows is run as it is printed, and must print what the page says. */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { beforeAll } from "@jest/globals";
import { addPrefix, disposeTensors, OrderedDict, readCheckpoint, writeCheckpoint } from "../../lib/checkpoint/index.js";
import { createModel } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import { startCommand, startMoco, type Outcome } from "../cli/moco.js";
import { runPythonFile, testPython, testUpstream } from "../support/python.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { readPage, ReadersFolder, root, testBlocks, testLinks } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();

beforeAll(async () => {
  await folder.writePhotos();
  await writeVit();
  await writeUpstreamRun();
}, 180_000);

/** A ViT-S as upstream's users hand it on: the base encoder and its projector, without optimiser. */
async function writeVit(): Promise<void> {
  torch.manualSeed(0);
  const vit = createModel("vit_small", { numClasses: 0 });
  const projector = torch.scope(() => ({ "head.0.weight": torch.zeros([64, 384]), "head.3.weight": torch.zeros([16, 64]) }));
  const state = new OrderedDict([...vit.stateDict(), ...Object.entries(projector)]);
  const path = join(folder.path, "vit-s-300ep.pth.tar");
  await writeCheckpoint(path, { epoch: 300, arch: "vit_small", state_dict: addPrefix(state, "module.base_encoder.") });
  vit.dispose();
  disposeTensors(projector);
}

/** Two epochs of ResNet-18, without what only our own checkpoints have. */
async function writeUpstreamRun(): Promise<void> {
  const words = "photos -a resnet18 --image-size 32 -b 32 --moco-dim 16 --moco-mlp-dim 64 --lr .3 --epochs 2 --warmup-epochs 1 --seed 0";
  const { code, stderr } = await startMoco(["pretrain", ...words.split(" "), "--out", "prepared"], { cwd: folder.path });
  if (code !== 0) throw new Error(stderr);
  mkdirSync(join(folder.path, "upstream"));
  for (const name of ["checkpoint_0000.pth.tar", "checkpoint_0001.pth.tar"]) {
    const { moco_v3_run: own, ...upstream } = await readCheckpoint(join(folder.path, "prepared", name), { tagFloats: true });
    await writeCheckpoint(join(folder.path, "upstream", name), upstream);
    disposeTensors([own, upstream]);
  }
  rmSync(join(folder.path, "prepared"), { recursive: true });
}

/** The libraries of today: PYTHONPATH may lead to the old timm that upstream's code needs. */
async function runPythonBlock(code: string): Promise<Outcome> {
  return startCommand("/usr/bin/env", ["-u", "PYTHONPATH", testPython!, "-c", code], { cwd: folder.path });
}

/** Upstream's program, with the block's own flags, on a CPU and on made-up batches: see run_upstream.py. */
async function runUpstreamBlock(code: string): Promise<Outcome> {
  const words = code.replaceAll("\\\n", " ").trim().split(/\s+/);
  const program = /main_(moco|lincls)/.exec(words[1]!)![0];
  // One process on a CPU stands for several with a GPU each.
  const args = words.slice(2, -1).filter((word) => word !== "--multiprocessing-distributed");
  const driver = join(root, "test", "train", "upstream", "run_upstream.py");
  const batches = { seed: 1, size: 32, image: 32, perEpoch: 2, classes: 4 };
  runPythonFile(driver, [JSON.stringify({ upstream: testUpstream, program, dtype: "float32", args, arch: {}, batches })], folder.path);
  return { code: 0, signal: null, stdout: "", stderr: "" };
}

const page = readPage("checkpoints.md");
testLinks(page);
testBlocks(page, {
  sh: (code) => folder.runShell(code),
  ts: (code) => folder.runTypeScript(code),
  python: testPython === null ? null : runPythonBlock,
  "sh upstream": testPython === null || testUpstream === null ? null : runUpstreamBlock,
});
