import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import {
  addPrefix, compareCheckpoints, disposeTensors, OrderedDict, readCheckpoint, stripPrefix, writeCheckpoint, type Checkpoint,
} from "../../../lib/checkpoint/index.js";
import { ConvertError } from "../../../lib/checkpoint/encoder/convertError.js";
import { compareTensors } from "../../../lib/checkpoint/inspect/compareTensors.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { fixturePath, readJson } from "../../support/fixtures.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";

const folder = temporaryFolder("compare");
expectNoTensorsLeft();

const exact = { atol: 0, rtol: 0 };

describe("compareTensors", () => {
  test("differences, and how large they are", () => {
    torch.scope(() => {
      const a = torch.tensor([1, 2, -4, 0]);
      expect(compareTensors(a, a.clone(), exact)).toEqual({ different: 0, elements: 4, maxAbsolute: 0, maxRelative: 0 });
      const b = torch.tensor([1, 2.5, -3, 0]);
      expect(compareTensors(a, b, exact)).toEqual({ different: 2, elements: 4, maxAbsolute: 1, maxRelative: 0.25 });
      expect(compareTensors(a, b, { atol: 0.5, rtol: 0 }).different).toBe(1);
      expect(compareTensors(a, b, { atol: 0, rtol: 0.2 }).different).toBe(1); // 0.5 of 2.5 is within, 1 of 3 is not
      expect(compareTensors(a, b, { atol: 0.5, rtol: 0.2 }).different).toBe(0);
    });
  });

  test("NaN equals NaN, an infinity itself, and neither anything else", () => {
    torch.scope(() => {
      const a = torch.tensor([NaN, Infinity, -Infinity, 1]);
      expect(compareTensors(a, a.clone(), exact).different).toBe(0);
      const b = torch.tensor([NaN, -Infinity, -Infinity, NaN]);
      expect(compareTensors(a, b, { atol: 9, rtol: 9 })).toEqual({ different: 2, elements: 4, maxAbsolute: Infinity, maxRelative: Infinity });
    });
  });

  test("whole numbers beyond 2^53, unsigned ones that would wrap, complex numbers, other dtypes, float8", () => {
    torch.scope(() => {
      const large = torch.tensor(new BigInt64Array([2n ** 60n, 5n]));
      expect(compareTensors(large, large.add(torch.tensor(new BigInt64Array([1n, 0n]))), exact)).toMatchObject({ different: 1, maxAbsolute: 1 });
      const bytes = torch.tensor(new Uint8Array([0, 255]));
      expect(compareTensors(bytes, bytes.flip([0]), exact)).toMatchObject({ different: 2, maxAbsolute: 255 });
      const complex = (re: number, im: number): Tensor => torch.viewAsComplex(torch.tensor([re, im], [1, 2]));
      expect(compareTensors(complex(1, 2), complex(3, 4), exact)).toMatchObject({ different: 1, elements: 1, maxAbsolute: 2 });
      expect(compareTensors(torch.tensor([1, 0.1]), torch.tensor([1, 0.1]).to("float16"), exact)).toMatchObject({ different: 1, elements: 2 });
      const small = torch.tensor([1, 2]).to("float8_e4m3fn");
      expect(compareTensors(small, small.clone(), exact).different).toBe(0);
    });
  });
});

const fixture = (name: string): string => fixturePath(`checkpoints/${name}`);

/** A fixture, changed and written to a file of its own. */
async function changed(name: string, as: string, change: (value: Checkpoint) => void | unknown): Promise<string> {
  const value = await readCheckpoint(fixture(name));
  const path = join(folder, as);
  try {
    await writeCheckpoint(path, (await torch.scope(() => change(value) as object | undefined)) ?? value);
  } finally {
    disposeTensors(value);
  }
  return path;
}

describe("compareCheckpoints", () => {
  test.each([
    ["vitmini_adamw_zip", "vitmini_adamw_legacy"], ["vitmini_adamw_zip", "vitmini_adamw_cuda0_legacy"], ["resnet_lars_zip", "resnet_lars_legacy"],
    ["odd_zip", "odd_legacy"], ["lincls_vit_zip", "lincls_vit_legacy"], ["resnet_lars_zip", "resnet_lars_torch17_zip"],
  ])("%s equals %s: all tensors, all plain values", async (a, b) => {
    const list = readJson<{ tensors: unknown[]; scalars: unknown[] }>(`checkpoints/${a}.list.json`);
    const result = await compareCheckpoints(fixture(`${a}.pth.tar`), fixture(`${b}.pth.tar`));
    expect(result).toMatchObject({
      equal: true, common: list.tensors.length, equalTensors: list.tensors.length, values: [], fields: [], order: false, notes: [],
    });
    expect(result.commonFields).toBeGreaterThan(0);
  });

  test("one changed element, one missing and one new tensor, another shape, dtype and epoch are found", async () => {
    const key = "module.predictor.0.weight";
    const path = await changed("vitmini_adamw_zip.pth.tar", "changed.pth.tar", (value) => {
      const state = value.state_dict!;
      state.get(key)!.select(0, 2).select(0, 1).add_(0.5);
      const replace = (name: string, by: (old: Tensor) => Tensor): void => {
        const old = state.get(name)!;
        state.set(name, torch.keep(by(old)));
        old.dispose();
      };
      replace("module.base_encoder.norm.bias", (old) => old.unsqueeze(0));
      replace("module.base_encoder.norm.weight", (old) => old.to("float64"));
      state.get("module.base_encoder.cls_token")!.dispose();
      state.delete("module.base_encoder.cls_token");
      state.set("module.new", torch.keep(torch.ones([2])));
      value.epoch = 7;
    });
    const result = await compareCheckpoints(fixture("vitmini_adamw_zip.pth.tar"), path);
    expect(result).toMatchObject({
      equal: false,
      missing: ["module.base_encoder.cls_token"],
      extra: ["module.new"],
      shapes: [{ key: "module.base_encoder.norm.bias", a: [16], b: [1, 16] }],
      dtypes: [{ key: "module.base_encoder.norm.weight", a: "float32", b: "float64" }],
      fields: [{ key: "epoch", a: "2", b: "7" }],
      order: false,
    });
    expect(result.values).toHaveLength(1);
    expect(result.values[0]).toMatchObject({ key, different: 1 });
    expect(result.values[0]!.maxAbsolute).toBeCloseTo(0.5, 6);
    expect(result.largest).toEqual({ key, maxAbsolute: result.values[0]!.maxAbsolute });
    expect(result.equalTensors).toBe(result.common - 3);

    const onlyEqual = await compareCheckpoints(fixture("vitmini_adamw_zip.pth.tar"), path, { accepts: (name) => name.startsWith("optimizer.") });
    expect(onlyEqual).toMatchObject({ equal: true, commonFields: 0 });
    expect((await compareCheckpoints(fixture("vitmini_adamw_zip.pth.tar"), path, { modelOnly: true })).fields).toEqual([]);
    const tolerant = await compareCheckpoints(fixture("vitmini_adamw_zip.pth.tar"), path, { atol: 0.6 });
    expect(tolerant.values).toEqual([]);
  });

  test("the module. prefix is passed over, with a note; another order is a difference", async () => {
    const path = await changed("lincls_vit_zip.pth.tar", "stripped.pth.tar", (value) => void (value.state_dict = stripPrefix(value.state_dict!)));
    const result = await compareCheckpoints(fixture("lincls_vit_zip.pth.tar"), path);
    expect(result).toMatchObject({ equal: true, missing: [], extra: [] });
    expect(result.notes).toEqual([`the keys of ${fixture("lincls_vit_zip.pth.tar")} begin with "module."; compared without it`]);

    const turned = await changed("lincls_vit_zip.pth.tar", "turned.pth.tar", (value) => {
      value.state_dict = new OrderedDict([...value.state_dict!].reverse());
    });
    expect(await compareCheckpoints(fixture("lincls_vit_zip.pth.tar"), turned)).toMatchObject({ equal: false, order: true, values: [] });
  });

  test("the largest difference is that of a weight, not of a count", async () => {
    const path = await changed("resnet_lars_zip.pth.tar", "counted.pth.tar", (value) => {
      value.state_dict!.get("module.base_encoder.bn1.num_batches_tracked")!.add_(10);
      value.state_dict!.get("module.base_encoder.bn1.weight")!.add_(1);
      value.state_dict!.get("module.base_encoder.bn1.bias")!.add_(2);
    });
    const { largest, values } = await compareCheckpoints(fixture("resnet_lars_zip.pth.tar"), path);
    expect(values).toHaveLength(3);
    expect(largest).toMatchObject({ key: "module.base_encoder.bn1.bias" });
  });

  test("encoders are compared across kinds; without one there is an error", async () => {
    const path = await changed("vitmini_adamw_zip.pth.tar", "bare.pth", (value) => {
      const encoder = [...value.state_dict!].filter(([key]) => key.startsWith("module.base_encoder."));
      return { model: new OrderedDict(encoder.map(([key, tensor]) => [key.replace("module.base_encoder.", ""), tensor])) };
    });
    const result = await compareCheckpoints(fixture("vitmini_adamw_zip.pth.tar"), path, { encoder: true });
    expect(result).toMatchObject({ equal: true, a: { kind: "moco-v3" }, missing: [], extra: [] });
    expect(result.common).toBe(18);
    expect((await compareCheckpoints(fixture("vitmini_adamw_zip.pth.tar"), path)).equal).toBe(false);

    const record = (heads: number) => (value: Checkpoint): unknown => ({
      arch: "vit_small", encoder: { format: 1, num_heads: heads },
      state_dict: new OrderedDict([...value.state_dict!].filter(([key]) => !key.startsWith("module.head")).map(([key, tensor]) => [key.slice(7), tensor])),
    });
    const [two, four] = [
      await changed("lincls_vit_zip.pth.tar", "two.pth", record(2)), await changed("lincls_vit_zip.pth.tar", "four.pth", record(4)),
    ];
    expect(await compareCheckpoints(two, four, { encoder: true })).toMatchObject({
      equal: true, notes: ["a has 2 attention heads and b 4: the same tensors give other features"],
    });

    const other = await changed("vitmini_adamw_zip.pth.tar", "probe.pth", (value) => {
      const state = value.state_dict!;
      state.get("module.base_encoder.norm.bias")!.add_(1);
      return addPrefix(new OrderedDict([...state]), "");
    });
    const differing = await compareCheckpoints(fixture("vitmini_adamw_zip.pth.tar"), other, { encoder: true });
    expect(differing.values.map(({ key }) => key)).toEqual(["norm.bias"]);
    await expect(compareCheckpoints(fixture("odd_zip.pth.tar"), path, { encoder: true })).rejects.toThrow(ConvertError);
  });
});
