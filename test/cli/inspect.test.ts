import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { OrderedDict, writeCheckpoint } from "../../lib/checkpoint/index.js";
import * as torch from "../../lib/torch/index.js";
import { fixturePath } from "../support/fixtures.js";
import { startMoco } from "./moco.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

const folder = temporaryFolder("inspect");
expectNoTensorsLeft();

const vit = fixturePath("checkpoints/vitmini_adamw_zip.pth.tar");
const legacy = fixturePath("checkpoints/vitmini_adamw_legacy.pth.tar");
const probe = fixturePath("checkpoints/lincls_vit_zip.pth.tar");

test("facts, an aligned table and warnings", async () => {
  const { code, stdout } = await startMoco(["inspect", vit, "--keys", "module.base_encoder.patch_embed.*", "optimizer.state.53.*"]);
  expect(code).toBe(0);
  expect(stdout).toContain(`file          ${vit}, 172.8 kB, zip (PyTorch 1.6 and later)\nkind          moco-v3: pre-training of MoCo v3\n`);
  expect(stdout).toContain("architecture  vit_small, as the file says (width 16, depth 1)\n");
  expect(stdout).toContain("epoch         2 done\noptimiser     adamw\nprecision     fp16\nparameters    14,688, of which the encoder 6,496\n");
  const rows = stdout.split("\n").slice(10, 16);
  expect(rows[0]).toMatch(/^tensor +dtype +shape +mean +std$/);
  expect(rows[1]).toBe("module.base_encoder.patch_embed.proj.weight  float32  [16, 3, 8, 8]  0.0020818   0.097918");
  expect(rows.slice(1, 6).map((row) => row.split(" ", 1)[0])).toEqual([
    "module.base_encoder.patch_embed.proj.weight", "module.base_encoder.patch_embed.proj.bias",
    "optimizer.state.53.step", "optimizer.state.53.exp_avg", "optimizer.state.53.exp_avg_sq",
  ]);
  expect(new Set(rows.slice(0, 6).map((row) => row.length)).size).toBe(1);
  expect(stdout).toMatch(/\n\nwarning \(heads-unknown\): nothing tells/);
});

test("JSON has what other programs rely on, and null for what is not finite", async () => {
  const { code, stdout } = await startMoco(["inspect", fixturePath("checkpoints/odd_zip.pth.tar"), "--json"]);
  expect(code).toBe(0);
  const result = JSON.parse(stdout);
  expect(result).toMatchObject({ kind: "state-dict", arch: null, epoch: 3, format: "zip", optimizer: null, numHeads: null });
  expect(result.tensors).toHaveLength(28);
  const special = result.tensors.find(({ key }: { key: string }) => key === "special");
  expect(special).toEqual({ key: "special", dtype: "float32", shape: [5], mean: null, std: null, group: "model", nan: 0, infinite: 2 });
  const base = result.tensors.find(({ key }: { key: string }) => key === "base");
  expect(base.mean).toBeCloseTo(17.9556054957211 / 48, 12);
  expect(result.warnings[0]).toMatch(/^non-finite: 1 values are NaN and 3 infinite/);
});

test("--tensors and --limit choose", async () => {
  const list = async (...flags: string[]): Promise<string[]> => {
    const { stdout } = await startMoco(["inspect", probe, "--json", ...flags]);
    return JSON.parse(stdout).tensors.map(({ key }: { key: string }) => key);
  };
  expect(await list()).toHaveLength(23);
  expect(await list("--tensors", "model")).toHaveLength(20);
  expect(await list("--tensors", "none")).toEqual([]);
  expect(await list("--limit", "2")).toEqual(["module.cls_token", "module.pos_embed"]);
  expect((await startMoco(["inspect", probe, "--limit", "2"])).stdout).toContain("and 21 more; --limit 23 shows all\n");
});

test("a run's folder stands for its latest checkpoint, one of Hugging Face for its weights", async () => {
  const run = join(folder, "run");
  mkdirSync(run);
  copyFileSync(legacy, join(run, "checkpoint_0000.pth.tar"));
  copyFileSync(vit, join(run, "checkpoint_0001.pth.tar"));
  expect(JSON.parse((await startMoco(["inspect", run, "--json"])).stdout).file).toBe(join(run, "checkpoint_0001.pth.tar"));
  expect(await startMoco(["inspect", folder])).toMatchObject({ code: 1, stderr: expect.stringContaining("has no checkpoint_*.pth.tar") });
  copyFileSync(probe, join(run, "pytorch_model.bin"));
  expect(JSON.parse((await startMoco(["inspect", run, "--json"])).stdout).kind).toBe("linear-probe");
});

test("two equal checkpoints: exit code 0; two that differ: 1", async () => {
  const same = await startMoco(["inspect", vit, legacy]);
  expect(same.code).toBe(0);
  expect(same.stdout).toBe(`a  ${vit} (moco-v3)\nb  ${legacy} (moco-v3)\n\nequal: 162 tensors and 19 plain values\n`);

  const other = await startMoco(["inspect", vit, fixturePath("checkpoints/vit_stopgrad_adamw_zip.pth.tar"), "--encoder"]);
  expect(other.code).toBe(1);
  expect(other.stdout).toMatch(/only in b: 12\n {2}blocks\.1\.norm1\.weight\n/);
  expect(other.stdout).toMatch(/other shape: 18\n {2}cls_token {2}\[1, 1, 16\] \| \[1, 1, 24\]\n/);
  expect(other.stdout).toMatch(/\ndifferent: 0 of 18 common tensors are equal\n$/);

  const values = await startMoco(["inspect", vit, probe, "--encoder", "--json"]);
  expect(values.code).toBe(1);
  const result = JSON.parse(values.stdout);
  expect(result).toMatchObject({ equal: false, common: 18, a: { kind: "moco-v3" }, b: { kind: "linear-probe" } });
  expect(result.values[0]).toMatchObject({ key: "cls_token", elements: 16 });
  expect(result.largest.maxAbsolute).toBe(Math.max(...result.values.map((each: { maxAbsolute: number }) => each.maxAbsolute)));
  const short = (await startMoco(["inspect", vit, probe, "--encoder", "--limit", "1"])).stdout;
  expect(short).toMatch(/\n\nother values: 17, by \S+ at most, in (\S+)\n {2}tensor .*\n {2}cls_token .* of 16\n {2}and 16 more\n\ndifferent/);
  expect(JSON.parse((await startMoco(["inspect", vit, probe, "--encoder", "--json", "--atol", "10"])).stdout).equal).toBe(true);
});

test("what cannot be read is told on standard error", async () => {
  const damaged = await startMoco(["inspect", fixturePath("unsafe/13_zip_wrong_crc.pth")]);
  expect(damaged).toMatchObject({ code: 1, stdout: "" });
  expect(damaged.stderr).toMatch(/^error: .*13_zip_wrong_crc\.pth \(archive\/data\/0\): its CRC-32 is .* the file is damaged/);
  expect(damaged.stderr).not.toContain("    at ");
  const cut = join(folder, "cut.pth.tar");
  writeFileSync(cut, readFileSync(vit).subarray(0, 100_000));
  expect(await startMoco(["inspect", vit, cut])).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("cut short") });
  expect((await startMoco(["inspect", join(folder, "none.pth")])).stderr).toMatch(/^error: there is no checkpoint .*none\.pth/);
  expect((await startMoco(["inspect", fixturePath("checkpoints/odd_zip.pth.tar"), vit, "--encoder"])).code).toBe(1);
});

test("a file that asks for code is described, and refused", async () => {
  const hostile = await startMoco(["inspect", fixturePath("unsafe/01_zip_reduce_os_system.pth"), "--json"]);
  expect(hostile.code).toBe(1);
  expect(hostile.stderr).toMatch(/^error: .*01_zip_reduce_os_system\.pth \(.*data\.pkl, byte \d+\): the pickle asks for os\.system/);
  expect(JSON.parse(hostile.stdout)).toMatchObject({ kind: "unknown", warnings: [expect.stringMatching(/^unknown-globals: /)] });
});

test("wrong usage", async () => {
  for (const words of [["inspect"], ["inspect", vit, "--encoder"], ["inspect", vit, "--atol", "1"], ["inspect", vit, probe, "--atol", "-1"],
    ["inspect", vit, probe, "--tensors", "none"], ["inspect", vit, "--tensors", "some"]]) {
    expect([words.slice(2), (await startMoco(words)).code]).toEqual([words.slice(2), 2]);
  }
});

test("keys out of a file cannot reach the terminal as control sequences", async () => {
  const path = join(folder, "escape.pth");
  using scope = torch.openScope();
  await writeCheckpoint(path, scope.run(() => new OrderedDict([["\u001b[2J\u009b31mwiped", torch.tensor([NaN])]])));
  const { stdout } = await startMoco(["inspect", path]);
  expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  expect(stdout).toContain(String.raw`"\u001b[2J\u009b31mwiped"`);
  const json = (await startMoco(["inspect", path, "--json"])).stdout;
  expect(json).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  expect(JSON.parse(json).tensors[0].key).toBe("\u001b[2J\u009b31mwiped");
  expect((await startMoco(["inspect", path, path])).stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
});
