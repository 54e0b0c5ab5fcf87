/** Every command and program that docs/serving.md shows is run as it is printed, and must print what the page says. */
import { copyFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import ts from "typescript";
import { addPrefix, OrderedDict, writeCheckpoint } from "../../lib/checkpoint/index.js";
import { createModel } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import { fixturePath } from "../support/fixtures.js";
import { plantedFolder, untrainedEncoder } from "../train/plantedDuplicates.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { readPage, ReadersFolder, root, section, testBlocks, testLinks } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();
const page = readPage("serving.md");

beforeAll(async () => {
  await folder.writePhotos();
  await plantedFolder(join(folder.path, "pictures"));
  await untrainedEncoder(join(folder.path, "encoder.pth.tar"));
  process.env.SERVER = join(root, "examples", "similar-images", "server.mjs");
  symlinkSync(join(root, "node_modules", "onnxruntime-node"), join(folder.path, "node_modules", "onnxruntime-node"));
  copyFileSync(fixturePath("checkpoints/lincls_vit_legacy.pth.tar"), join(folder.path, "probe.pth.tar"));
  torch.manualSeed(0);
  const vit = createModel("vit_small", { numClasses: 0 });
  const state = addPrefix(new OrderedDict(vit.stateDict()), "module.base_encoder.");
  await writeCheckpoint(join(folder.path, "vit-s-300ep.pth.tar"), { epoch: 300, arch: "vit_small", state_dict: state });
  vit.dispose();
}, 180_000);

const runners = { sh: (code: string) => folder.runShell(code), ts: (code: string) => folder.runTypeScript(code) };
for (const heading of ["Embeddings", "ONNX"]) testBlocks(section(page, heading), runners);
testBlocks(section(page, "Nearest images and near-duplicates"), runners, { tolerance: 0.0051 });
testBlocks(section(page, "A server"), { sh: runners.sh });
testLinks(page);

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
