import { readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { CheckpointError, inspectCheckpoint, OrderedDict, writeCheckpoint, type Inspection } from "../../../lib/checkpoint/index.js";
import * as torch from "../../../lib/torch/index.js";
import { fixturePath, readJson } from "../../support/fixtures.js";
import { pickle, text, zipOf } from "../assemble.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";

const folder = temporaryFolder("inspect");
expectNoTensorsLeft();

interface Leaf {
  path: (string | number)[];
  dtype: string;
  shape: number[];
  sum: number | string;
}

const fixtures = readdirSync(fixturePath("checkpoints")).filter((name) => name.endsWith(".pth.tar"));

/** What each family of fixtures is; see their manifest. */
const facts: Record<string, Partial<Inspection>> = {
  vit_stopgrad_adamw: {
    kind: "moco-v3", family: "vit", arch: "vit_small", archFrom: "file", width: 24, depth: 2, patchSize: 8, imageSize: [32, 32], stem: "patch",
    fixedPositions: true, epoch: 2, step: null, optimizer: "adamw", precision: "fp16", prefix: "module.",
  },
  vitmini_adamw: {
    kind: "moco-v3", family: "vit", arch: "vit_small", width: 16, depth: 1, patchSize: 8, imageSize: [16, 16], epoch: 2, optimizer: "adamw",
  },
  resnet_lars: {
    kind: "moco-v3", family: "resnet", arch: "resnet18", width: 2, depth: 18, numHeads: null, patchSize: null, epoch: 2, optimizer: "lars",
  },
  lincls_vit: { kind: "linear-probe", family: "vit", arch: "vit_small", numClasses: 10, epoch: 3, optimizer: "sgd", bestAccuracy: 75 },
  odd: { kind: "state-dict", family: null, arch: null, epoch: 3, optimizer: null, encoderParameters: null },
};

test.each(fixtures)("%s: what it is, and the numbers of its list", async (name) => {
  const path = fixturePath(`checkpoints/${name}`);
  const inspection = await inspectCheckpoint(path);
  const family = Object.keys(facts).find((each) => name.startsWith(each))!;
  expect(inspection).toMatchObject(facts[family]!);
  expect(inspection).toMatchObject({ file: path, fileBytes: statSync(path).size, format: name.includes("legacy") ? "legacy" : "zip" });

  const { tensors } = readJson<{ tensors: Leaf[] }>(`checkpoints/${name.replace(".pth.tar", ".list.json")}`);
  const keyOf = (path: Leaf["path"]): string => (path[0] === "state_dict" ? path.slice(1) : path).join(".");
  expect(inspection.tensors.map(({ key, dtype, shape }) => ({ key, dtype, shape })))
    .toEqual(tensors.map(({ path, dtype, shape }) => ({ key: keyOf(path), dtype, shape })));
  for (const [i, { key, shape, sum }] of tensors.map((leaf) => ({ ...leaf, key: keyOf(leaf.path) })).entries()) {
    const { mean, std, group } = inspection.tensors[i]!;
    const count = shape.reduce((product, size) => product * size, 1);
    expect([key, group]).toEqual([key, key.startsWith("optimizer.") ? "optimizer" : tensors[i]!.path[0] === "state_dict" ? "model" : "other"]);
    if (typeof sum === "string") expect([key, Number.isFinite(mean)]).toEqual([key, false]);
    else if (count === 0) expect([key, mean, std]).toEqual([key, NaN, NaN]);
    // The list's sum was added in another order: its rounding is a share of the magnitudes.
    else expect([key, Math.abs(mean! - sum / count) <= 1e-12 * (Math.abs(mean!) + std!) * Math.sqrt(count)]).toEqual([key, true]);
  }
});

test("every file in test/fixtures that torch.save wrote can be inspected", async () => {
  for (const name of ["checkpoints/dtypes.pth", "checkpoints/values_protocol2.pth", "checkpoints/values_protocol5.pth"]) {
    const { tensors } = await inspectCheckpoint(fixturePath(name));
    expect([name, tensors.length > 0]).toEqual([name, true]);
  }
});

test("parameters are counted without statistics, and the encoder's apart", async () => {
  const vit = await inspectCheckpoint(fixturePath("checkpoints/vitmini_adamw_zip.pth.tar"));
  // By hand: patches 16·192+16, class token 16, positions 80, block 16·4 + 48·17 + 16·17 + 64·17 + 16·65, norm 32.
  expect(vit.encoderParameters).toBe(3088 + 96 + 64 + 816 + 272 + 1088 + 1040 + 32);
  const modelSize = vit.tensors.filter(({ group, key }) => group === "model" && !/running_|num_batches/.test(key))
    .reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
  expect(vit.parameters).toBe(modelSize);
});

test("safetensors, and the step of a run of ours", async () => {
  using scope = torch.openScope();
  const path = join(folder, "weights.safetensors");
  await writeCheckpoint(path, scope.run(() => new OrderedDict([["a", torch.tensor([1, 3])], ["b", torch.ones([2, 2], { dtype: "int64" })]])), {
    format: "safetensors",
  });
  const { format, fileBytes, tensors } = await inspectCheckpoint(path);
  expect({ format, fileBytes }).toEqual({ format: "safetensors", fileBytes: statSync(path).size });
  const facts = { group: "model", nan: 0, infinite: 0 };
  expect(tensors.sort((x, y) => x.key.localeCompare(y.key))).toEqual([
    { key: "a", dtype: "float32", shape: [2], mean: 2, std: 1, ...facts }, { key: "b", dtype: "int64", shape: [2, 2], mean: 1, std: 0, ...facts },
  ]);
  const own = join(folder, "own.pth.tar");
  await writeCheckpoint(own, { epoch: 4, arch: "vit_small", moco_v3_run: { format: 1, epoch: 4, step: 17 } });
  expect(await inspectCheckpoint(own)).toMatchObject({ kind: "unknown", epoch: 4, step: 17, tensors: [], parameters: 0 });
});

test("a file that would run code is described, and nothing is run", async () => {
  const hostile = await inspectCheckpoint(fixturePath("unsafe/01_zip_reduce_os_system.pth"));
  expect(hostile.kind).toBe("unknown");
  expect(hostile.warnings[0]).toMatchObject({ code: "unknown-globals", message: expect.stringMatching(/asks for (os|posix)\.system, which/) });
  // The call's result thrown away: nothing of it is left in the value.
  const thrown = pickle("cos\nsystem\n(", text("echo"), "tR0}");
  const path = join(folder, "thrown.pth");
  writeFileSync(path, await zipOf({ "x/data.pkl": thrown, "x/version": "3\n" }));
  expect((await inspectCheckpoint(path)).warnings).toEqual([
    { code: "unknown-globals", message: expect.stringContaining("the file asks for os.system, which") },
  ]);
  const harmless = await inspectCheckpoint(fixturePath("unsafe/control_zip.pth"));
  expect(harmless.warnings.map(({ code }) => code)).toEqual(["module-prefix"]);
});

test("whatever is wrong with a file, the error says so", async () => {
  for (const name of readdirSync(fixturePath("unsafe")).filter((each) => /^\d.*\.pth$/.test(each))) {
    try {
      const { warnings } = await inspectCheckpoint(fixturePath(`unsafe/${name}`));
      expect([name, warnings.map(({ code }) => code)]).toEqual([name, expect.arrayContaining(["unknown-globals"])]);
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      expect([name, error.file]).toEqual([name, fixturePath(`unsafe/${name}`)]);
    }
  }
  await expect(inspectCheckpoint(join(folder, "none.pth"))).rejects.toThrow(/none\.pth: there is no such file/);
});
