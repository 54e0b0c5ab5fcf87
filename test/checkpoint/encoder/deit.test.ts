import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { convertCheckpoint, disposeTensors, readCheckpoint } from "../../../lib/checkpoint/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { fixturePath, readJson } from "../../support/fixtures.js";
import { bitsOf } from "./bits.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";

interface Manifest {
  items: { name: string; source: string; source_keys: number; keys: string[]; dropped: string[] }[];
}

interface Leaf {
  path: string[];
  dtype: string;
  shape: number[];
  stride: number[];
}

const folder = temporaryFolder("deit");
expectNoTensorsLeft();

const { items } = readJson<Manifest>("convert/manifest.json");

test.each(items)("$name is what upstream's conversion gives", async ({ name, source, keys, dropped }) => {
  const output = join(folder, `${name}.pth`);
  await convertCheckpoint(fixturePath(source), output, { to: "deit" });
  const paths = [output, fixturePath(`convert/${name}.pth`), fixturePath(source)];
  const [ours, theirs, input] = await Promise.all(paths.map((path) => readCheckpoint<Record<string, Map<string, Tensor>>>(path)));
  expect(Object.keys(ours!)).toEqual(["model"]);
  expect([...ours!.model!.keys()]).toEqual(keys);
  expect(bitsOf(ours!.model!)).toEqual(bitsOf(theirs!.model!));
  const leaves = readJson<{ tensors: Leaf[] }>(`convert/${name}.list.json`).tensors;
  expect([...ours!.model!].map(([key, { dtype, shape, strides }]) => ({ path: ["model", key], dtype, shape, stride: strides }))).toEqual(
    leaves.map(({ path, dtype, shape, stride }) => ({ path, dtype, shape, stride })),
  );
  // Every key of the input is either in the result or known to be left out.
  const kept = keys.map((key) => `module.base_encoder.${key}`);
  expect([...input!.state_dict!.keys()].sort()).toEqual([...kept, ...dropped].sort());
  for (const value of [ours, theirs, input]) disposeTensors(value);
});
