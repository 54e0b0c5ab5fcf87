import { expect, test } from "@jest/globals";
import { differingOptions, optionLines, runKind, usualOptions } from "../../../lib/report/run/usualOptions.js";
import { resolveFinetuneOptions } from "../../../lib/train/finetuning/finetuneOptions.js";
import { resolveLinearOptions } from "../../../lib/train/linearProbe/linearOptions.js";
import { resolveOptions } from "../../../lib/train/pretrainOptions.js";

test.each([
  ["pretrain", resolveOptions({ data: "photos", device: "cpu" })],
  ["lincls", resolveLinearOptions({ data: "photos", device: "cpu" })],
  ["finetune", resolveFinetuneOptions({ data: "photos", device: "cpu", arch: "vit_small" })],
] as const)("the usual options of %s are what the program takes by itself", (kind, resolved) => {
  const options: Record<string, unknown> = { ...resolved };
  expect(runKind(options)).toBe(kind);
  const usual = usualOptions(options);
  const names = Object.keys(usual).filter((name) => name !== "imageSize"); // that of the checkpoint, in some
  expect(Object.fromEntries(names.map((name) => [name, options[name]]))).toEqual(Object.fromEntries(names.map((name) => [name, usual[name]])));
  expect(optionLines(options).filter(({ name, differs }) => differs && name !== "imageSize")).toEqual([]);
});

test("what differs from the usual is found; the learning rate is compared for the batch", () => {
  const { ...options }: Record<string, unknown> = resolveOptions({ data: "photos", device: "cpu", batchSize: 256, betas: [0.9, 0.95], mCos: true });
  expect(optionLines(options).filter(({ differs }) => differs)).toEqual([
    { name: "mCos", value: "yes", usual: "no", differs: true },
    { name: "betas", value: "0.9, 0.95", usual: "0.9, 0.999", differs: true },
    { name: "batchSize", value: "256", usual: "4096", differs: true },
  ]);
});

test("runs are compared by what they train first, and by where they lie last", () => {
  const a = { out: "runs/a", temperature: 1, betas: [0.9, 0.999], seed: 0 };
  expect(differingOptions([a, { ...a, out: "runs/b", temperature: 0.2, clipGrad: 1 }])).toEqual([
    { name: "temperature", values: ["1", "0.2"] }, { name: "clipGrad", values: ["–", "1"] }, { name: "out", values: ["runs/a", "runs/b"] },
  ]);
  expect(differingOptions([a, { ...a }])).toEqual([]);
});
