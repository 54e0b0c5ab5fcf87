/** docs/distributed.md: its two hosts train as the page says, in network namespaces; its program runs as two processes. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import ts from "typescript";
import { startCommand } from "../cli/moco.js";
import { NetworkHosts } from "../support/networkHosts.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { readPage, ReadersFolder, root, section, testLinks } from "./docsPage.js";

expectNoTensorsLeft();
const folder = new ReadersFolder();
const page = readPage("distributed.md");

beforeAll(() => folder.writePhotos());

(NetworkHosts.arePossible() ? test : test.skip)("the two hosts of upstream's flags train", async () => {
  const { blocks } = section(page, "Upstream's flags");
  expect(blocks.map(({ language }) => language)).toEqual(["sh", "sh"]);
  using hosts = new NetworkHosts(2);
  const path = `PATH=${join(folder.path, "bin")}:${process.env.PATH}`;
  const outcomes = await Promise.all(blocks.map(({ code }, host) => {
    const [command, ...words] = hosts.on(host, ["env", path, "OMP_NUM_THREADS=1", "bash", "-e", "-c", code]);
    return startCommand(command, words, { cwd: folder.path });
  }));
  for (const { code, stderr } of outcomes) if (code !== 0) throw new Error(`exit code ${code}\n${stderr}`);
  expect(outcomes[0]!.stdout).toMatch(/runs\/flags\/checkpoint_0000\.pth\.tar/);
  expect(existsSync(join(folder.path, "runs/flags/checkpoint_0000.pth.tar"))).toBe(true);
}, 180_000);

test("the page's program runs as two processes", async () => {
  const { code } = page.blocks.find(({ language }) => language === "ts")!;
  const options = { module: ts.ModuleKind.ES2022, target: ts.ScriptTarget.ES2022 };
  writeFileSync(join(folder.path, "block.mjs"), ts.transpileModule(code, { compilerOptions: options }).outputText);
  const outcomes = await Promise.all([0, 1].map((rank) =>
    startCommand("/usr/bin/env", [`RANK=${rank}`, "OMP_NUM_THREADS=1", process.execPath, "block.mjs"], { cwd: folder.path })));
  for (const { code: exit, stderr } of outcomes) if (exit !== 0) throw new Error(`exit code ${exit}\n${stderr}`);
}, 180_000);

test("its table is what was recorded", () => {
  const { rows, float32 } = JSON.parse(readFileSync(join(root, "benchmarks/results/distributed-exactness.json"), "utf8")) as {
    rows: { case: string; loss: number; weights: number }[]; float32: { case: string; loss: number; weights: number }[];
  };
  for (const name of ["ViT, frozen patch projection", "ViT, learned patch projection", "ViT with ConvStem", "ResNet"]) {
    const cells = [
      ...["fp64", "fp32"].map((precision) => rows.filter(({ case: each }) => each === `${name}, ${precision}`)),
      float32.filter(({ case: each }) => each.startsWith(`${name}, `)),
    ].flatMap((found) => [Math.max(...found.map(({ loss }) => loss)), Math.max(...found.map(({ weights }) => weights))]);
    expect(page.text).toContain(`| ${name} | ${cells.map((cell) => cell.toExponential(0)).join(" | ")} |`);
  }
});

test("its table of what overlapping gains is what was recorded", () => {
  const { ratios } = JSON.parse(readFileSync(join(root, "benchmarks/results/distributed.json"), "utf8")) as { ratios: Record<string, number> };
  for (const arch of ["vit_small", "resnet18"]) {
    const cells = [2, 4].map((ranks) => `${ratios[`${arch}OverlapOn${ranks}Ranks`]!.toFixed(3)} ×`);
    expect(page.text).toContain(`| ${arch} | ${cells.join(" | ")} |`);
  }
});

testLinks(page);
