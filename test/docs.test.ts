/** Every command and program that docs/checkpoints.md shows is run as it is printed, and must print what the page says. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import sharp from "sharp";
import ts from "typescript";
import { addPrefix, disposeTensors, OrderedDict, readCheckpoint, writeCheckpoint } from "../lib/checkpoint/index.js";
import { createModel } from "../lib/models/index.js";
import * as torch from "../lib/torch/index.js";
import { mainScript, startCommand, startMoco, type Outcome } from "./cli/moco.js";
import { fixturePath } from "./support/fixtures.js";
import { runPythonFile, testPython, testUpstream } from "./support/python.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const page = readFileSync(join(root, "docs", "checkpoints.md"), "utf8");

interface Block {
  /** How to run it: what stands behind the three backticks. */
  language: string;
  code: string;
  /** What the page shows below it; null where it shows nothing. */
  output: string | null;
  line: number;
}

/** The page's code blocks, each with the `text` block that follows it directly. */
function blocksOf(markdown: string): Block[] {
  const blocks: Block[] = [];
  const pattern = /^```(.*)\n([\s\S]*?)^```\n(?:\n```text\n([\s\S]*?)^```\n)?/gm;
  for (const { 1: language, 2: code, 3: output, index } of markdown.matchAll(pattern)) {
    blocks.push({ language: language!, code: code!, output: output ?? null, line: markdown.slice(0, index).split("\n").length });
  }
  return blocks;
}

const blocks = blocksOf(page);

/** What is needed to run a language's blocks; a language that is missing here fails below. */
const runnable: Record<string, boolean> = {
  sh: true, ts: true, python: testPython !== null, "sh upstream": testPython !== null && testUpstream !== null,
};

let folder: string;
let tensorsBefore: number;

beforeAll(async () => {
  tensorsBefore = torch.memory().tensors;
  folder = mkdtempSync(join(tmpdir(), "moco-docs-"));
  for (const name of ["node_modules", "photos", "bin"]) mkdirSync(join(folder, name));
  symlinkSync(root, join(folder, "node_modules", "moco-v3"));
  // `npx moco` finds an installed package; here it is the built one.
  writeFileSync(join(folder, "bin", "npx"), `#!/bin/sh\nshift\nexec "${process.execPath}" "${mainScript}" "$@"\n`);
  chmodSync(join(folder, "bin", "npx"), 0o755);
  await writePhotos();
  await writeVit();
  await writeUpstreamRun();
}, 180_000);

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
  expect(torch.memory().tensors).toBe(tensorsBefore);
});

async function writePhotos(): Promise<void> {
  const photograph = sharp(fixturePath("augment/files/china.jpg"));
  for (let i = 0; i < 64; i++) {
    const piece = photograph.clone().extract({ left: 8 * i, top: 4 * i, width: 120, height: 90 });
    await piece.resize(60, 45).jpeg().toFile(join(folder, "photos", `${i}.jpg`));
  }
}

/** A ViT-S as upstream's users hand it on: the base encoder and its projector, without optimiser. */
async function writeVit(): Promise<void> {
  torch.manualSeed(0);
  const vit = createModel("vit_small", { numClasses: 0 });
  const projector = torch.scope(() => ({ "head.0.weight": torch.zeros([64, 384]), "head.3.weight": torch.zeros([16, 64]) }));
  const state = new OrderedDict([...vit.stateDict(), ...Object.entries(projector)]);
  const path = join(folder, "vit-s-300ep.pth.tar");
  await writeCheckpoint(path, { epoch: 300, arch: "vit_small", state_dict: addPrefix(state, "module.base_encoder.") });
  vit.dispose();
  disposeTensors(projector);
}

/** Two epochs of ResNet-18, without what only our own checkpoints have. */
async function writeUpstreamRun(): Promise<void> {
  const words = "photos -a resnet18 --image-size 32 -b 32 --moco-dim 16 --moco-mlp-dim 64 --lr .3 --epochs 2 --warmup-epochs 1 --seed 0";
  const { code, stderr } = await startMoco(["pretrain", ...words.split(" "), "--out", "prepared"], { cwd: folder });
  if (code !== 0) throw new Error(stderr);
  mkdirSync(join(folder, "upstream"));
  for (const name of ["checkpoint_0000.pth.tar", "checkpoint_0001.pth.tar"]) {
    const { moco_v3_run: own, ...upstream } = await readCheckpoint(join(folder, "prepared", name), { tagFloats: true });
    await writeCheckpoint(join(folder, "upstream", name), upstream);
    disposeTensors([own, upstream]);
  }
  rmSync(join(folder, "prepared"), { recursive: true });
}

async function runShell(code: string): Promise<Outcome> {
  const path = `PATH=${join(folder, "bin")}:${process.env.PATH}`;
  return startCommand("/usr/bin/env", [path, "bash", "-e", "-o", "pipefail", "-c", code], { cwd: folder });
}

async function runTypeScript(code: string): Promise<Outcome> {
  const options = { module: ts.ModuleKind.ES2022, target: ts.ScriptTarget.ES2022 };
  writeFileSync(join(folder, "block.mjs"), ts.transpileModule(code, { compilerOptions: options }).outputText);
  return startCommand(process.execPath, ["block.mjs"], { cwd: folder });
}

/** The libraries of today: PYTHONPATH may lead to the old timm that upstream's code needs. */
async function runPythonBlock(code: string): Promise<Outcome> {
  return startCommand("/usr/bin/env", ["-u", "PYTHONPATH", testPython!, "-c", code], { cwd: folder });
}

/** Upstream's program, with the block's own flags, on a CPU and on made-up batches: see run_upstream.py. */
async function runUpstreamBlock(code: string): Promise<Outcome> {
  const words = code.replaceAll("\\\n", " ").trim().split(/\s+/);
  const program = /main_(moco|lincls)/.exec(words[1]!)![0];
  // One process on a CPU stands for several with a GPU each.
  const args = words.slice(2, -1).filter((word) => word !== "--multiprocessing-distributed");
  const driver = join(root, "test", "train", "upstream", "run_upstream.py");
  const batches = { seed: 1, size: 32, image: 32, perEpoch: 2, classes: 4 };
  runPythonFile(driver, [JSON.stringify({ upstream: testUpstream, program, dtype: "float32", args, arch: {}, batches })], folder);
  return { code: 0, signal: null, stdout: "", stderr: "" };
}

/** The page's `…` stands for any text in a line, and alone in a line for any lines. */
function expectation(output: string): RegExp {
  const escaped = output.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
  return new RegExp(`^${escaped.replaceAll(/^ *…\n/gm, "(?:.*\\n)*?").replaceAll("…", ".*")}$`);
}

test("the page has blocks of every known kind and of no other", () => {
  expect([...new Set(blocks.map(({ language }) => language))].sort()).toEqual(Object.keys(runnable).sort());
  expect(blocks.filter(({ language }) => language === "sh").length).toBeGreaterThan(8);
  // All that is fenced was found: two fences for each block, and two for each output.
  const fences = page.match(/^```/gm)!.length;
  expect(fences).toBe(2 * (blocks.length + blocks.filter(({ output }) => output !== null).length));
});

test("an ellipsis stands for text, and nothing else does", () => {
  expect("a bc d\nx\ny\nend\n").toMatch(expectation("a … d\n…\nend\n"));
  expect("a (b)\nend\n").not.toMatch(expectation("a b\n…\nend\n"));
  expect("a\nend\nmore\n").not.toMatch(expectation("a\nend\n"));
});

describe("docs/checkpoints.md", () => {
  for (const { language, code, output, line } of blocks) {
    const name = `line ${line}: ${code.trim().split("\n")[0]}`;
    (runnable[language] ? test : test.skip)(name, async () => {
      const runners: Record<string, (code: string) => Promise<Outcome>> = {
        sh: runShell, ts: runTypeScript, python: runPythonBlock, "sh upstream": runUpstreamBlock,
      };
      const outcome = await runners[language]!(code);
      if (outcome.code !== 0) throw new Error(`exit code ${outcome.code}\n${outcome.stdout}${outcome.stderr}`);
      if (output !== null) expect(outcome.stdout).toMatch(expectation(output));
    }, 180_000);
  }
});

test("the recorded results that the page names are there under the commands' names", () => {
  for (const { 0: path } of page.matchAll(/benchmarks\/results\/[\w-]+\.json/g)) expect(() => readFileSync(join(root, path))).not.toThrow();
});
