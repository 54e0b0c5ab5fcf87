/** Every recipe parses, names only flags that exist, and is listed with its command. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { describe, expect, test } from "@jest/globals";
import { applyConfigFile } from "../lib/cli/configFile.js";
import { addFinetuneFlags, toFinetuneOptions, type FinetuneFlags } from "../lib/cli/finetuneFlags.js";
import { addPretrainFlags, toPretrainOptions, type PretrainFlags } from "../lib/cli/pretrainFlags.js";
import { resolveFinetuneOptions } from "../lib/train/finetuning/finetuneOptions.js";
import { resolveOptions } from "../lib/train/pretrainOptions.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const folder = join(root, "recipes");
const names = readdirSync(folder).filter((name) => name.endsWith(".json"));
const readme = readFileSync(join(folder, "README.md"), "utf8");

function parsed<Flags>(command: Command, words: readonly string[], name: string): Flags {
  command.exitOverride().argument("[data]").parse(words, { from: "user" });
  applyConfigFile(command, join(folder, name));
  return command.opts() as Flags;
}

const finetuned = (name: string, ...words: string[]): ReturnType<typeof resolveFinetuneOptions> => {
  const flags = parsed<FinetuneFlags>(addFinetuneFlags(new Command("finetune")), ["data", "--pretrained", "encoder.pth", ...words], name);
  return resolveFinetuneOptions({ ...toFinetuneOptions("data", flags), device: "cpu", precision: "fp32" });
};

test("each is listed once with its command and its result", () => {
  expect(names.length).toBeGreaterThanOrEqual(6);
  for (const name of names) {
    const rows = readme.split("\n").filter((line) => line.includes(`](${name})`));
    expect([name, rows.length]).toEqual([name, 1]);
    const [command] = name.split("-");
    expect(rows[0]).toMatch(new RegExp(`\`moco ${command} .*--config recipes/${name}\` \\| \\d\\d\\.\\d % \\|$`));
  }
  expect([...readme.matchAll(/\]\(([\w-]+\.json)\)/g)].map(([, name]) => name).sort()).toEqual([...names].sort());
});

describe("fine-tuning", () => {
  test.each(names.filter((name) => name.startsWith("finetune-")))("%s", (name) => {
    const { batchSize, lr, arch, schedule } = finetuned(name);
    expect([batchSize, schedule, arch]).toEqual([1024, "epoch", name.includes("vit-small") ? "vit_small" : "vit_base"]);
    expect(lr).toBeCloseTo(name.includes("imagenet") ? 1e-3 : 6e-4, 12); // scaled from 512
    expect(finetuned(name, "-b", "128").lr).toBeCloseTo(lr / 8, 12); // a flag wins
  });

  test("the results are the published ones", () => {
    const results = [...readme.matchAll(/\]\((finetune-[\w-]+)\.json\).* (\d\d\.\d) % \|$/gm)].map(([, name, result]) => [name, Number(result)]);
    expect(Object.fromEntries(results)).toEqual({
      "finetune-imagenet-vit-small": 81.4, "finetune-imagenet-vit-base": 83.2, "finetune-cifar10-vit-base": 98.9, "finetune-cifar100-vit-base": 90.5,
      "finetune-flowers102-vit-base": 97.7, "finetune-pets-vit-base": 93.2,
    });
  });
});

test.each(names.filter((name) => name.startsWith("pretrain-")))("%s", (name) => {
  const flags = parsed<PretrainFlags>(addPretrainFlags(new Command("pretrain")), ["data"], name);
  const { lr, batchSize, mCos, encoder } = resolveOptions({ ...toPretrainOptions("data", flags), device: "cpu", precision: "fp32" });
  expect([batchSize, mCos]).toEqual([4096, true]);
  expect(lr).toBeCloseTo(encoder === "resnet50" ? (name.includes("100ep") ? 9.6 : 4.8) : 2.4e-3, 12);
});

const linclsFile = fileURLToPath(new URL("../lib/cli/lincls.js", import.meta.url));
(existsSync(linclsFile) ? test : test.skip).each(names.filter((name) => name.startsWith("lincls-")))("%s", async (name) => {
  const { register } = (await import(linclsFile)) as { register(program: Command): void };
  const program = new Command();
  register(program);
  const [command] = program.commands;
  expect(() => applyConfigFile(command!, join(folder, name))).not.toThrow();
});
