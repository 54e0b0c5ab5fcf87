import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import {
  OrderedDict, PythonComplex, PythonFloat, PythonTuple, readCheckpoint, TorchSize, writeCheckpoint,
} from "../../lib/checkpoint/index.js";
import * as torch from "../../lib/torch/index.js";
import type { DType, Tensor } from "../../lib/torch/index.js";
import { fixturePath } from "../support/fixtures.js";
import { runPython, testPython } from "../support/python.js";

/**
 * Prints the values and tensors of each file as JSON, loaded with weights_only=True. The files before "--" are loaded with mmap too,
 * which legacy files do not allow.
 */
const DESCRIBE = `
import json, sys, torch
def describe(v):
    if isinstance(v, torch.Tensor):
        raw = v.detach().contiguous().reshape(-1).view(torch.uint8) if v.numel() else torch.zeros(0, dtype=torch.uint8)
        return {"tensor": str(v.dtype)[6:], "shape": list(v.shape), "stride": list(v.stride()), "offset": v.storage_offset(),
                "grad": v.requires_grad, "bytes": bytes(raw.tolist()).hex()}
    if isinstance(v, dict): return {"dict": type(v).__name__, "items": [[repr(k), describe(x)] for k, x in v.items()]}
    if isinstance(v, (list, tuple)): return {type(v).__name__: [describe(x) for x in v]}
    return {type(v).__name__: repr(sorted(v) if isinstance(v, set) else v)}
def load(path, mmap): return describe(torch.load(path, weights_only=True, mmap=mmap, map_location="cpu"))
end = sys.argv.index("--")
mapped = [load(path, True) for path in sys.argv[1:end]]
loaded = [load(path, False) for path in sys.argv[1:end] + sys.argv[end + 1:]]
assert loaded[:end - 1] == mapped
print(json.dumps(loaded))
`;

const describeWithPython = testPython === null ? describe.skip : describe;

describeWithPython("PyTorch", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "moco-python-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test("opens what we write, with weights_only and with mmap", async () => {
    const dtypes = Object.keys(torch.dtypes) as DType[];
    const tensors = new Map<string, Tensor>();
    for (const dtype of dtypes) {
      const { itemSize, kind } = torch.dtypes[dtype];
      const bytes = Uint8Array.from({ length: 6 * itemSize }, (_, i) => (kind === "bool" ? i % 2 : (i * 37) % 250));
      tensors.set(dtype, torch.fromBytes(bytes, [2, 3], dtype));
    }
    const base = tensors.get("float32") as Tensor;
    tensors.set("transposed", base.t());
    tensors.set("column", base.select(1, 1));
    tensors.set("scalar", torch.tensor(7, [], { dtype: "int64" }));
    tensors.set("empty", torch.zeros([0, 3], { dtype: "float32" }));
    tensors.set("grad", torch.tensor([1, 2]).requiresGrad_());
    const ordered = new OrderedDict(tensors);
    ordered.attributes = { _metadata: new OrderedDict([["", { version: 1 }]]) };
    const path = join(folder, "ours.pth");
    await writeCheckpoint(path, {
      integers: [0, 255, 65535, -1, 2147483648, 2n ** 70n], floats: [0.5, new PythonFloat(1), NaN, -Infinity], flags: [true, false, null],
      text: ["", "héllo ✓😀"], tuple: PythonTuple.fromArray([0.9, 0.999]), size: TorchSize.fromArray([2, 3]),
      complex: new PythonComplex(1, -2), set: new Set([1, 2]), bytes: Uint8Array.of(0, 128, 255),
      map: new Map<unknown, unknown>([[0, "zero"], ["10", 1]]), ordered,
    }, { keepRequiresGrad: true });
    const [loaded] = runPython<[{ items: [string, { items: [string, Record<string, unknown>][] }][] }]>(DESCRIBE, [path, "--"]);
    const items = new Map(loaded.items);
    expect(items.get("'integers'")).toEqual({
      list: ["0", "255", "65535", "-1", "2147483648", "1180591620717411303424"].map((int) => ({ int })),
    });
    expect(items.get("'floats'")).toEqual({ list: ["0.5", "1.0", "nan", "-inf"].map((float) => ({ float })) });
    expect(items.get("'flags'")).toEqual({ list: [{ bool: "True" }, { bool: "False" }, { NoneType: "None" }] });
    expect(items.get("'text'")).toEqual({ list: [{ str: "''" }, { str: "'héllo ✓😀'" }] });
    expect(items.get("'tuple'")).toEqual({ tuple: [{ float: "0.9" }, { float: "0.999" }] });
    expect(items.get("'size'")).toEqual({ Size: [{ int: "2" }, { int: "3" }] });
    expect(items.get("'complex'")).toEqual({ complex: "(1-2j)" });
    expect(items.get("'set'")).toEqual({ set: "[1, 2]" });
    expect(items.get("'bytes'")).toEqual({ bytes: "b'\\x00\\x80\\xff'" });
    expect(items.get("'map'")).toEqual({ dict: "dict", items: [["0", { str: "'zero'" }], ["'10'", { int: "1" }]] });
    const state = items.get("'ordered'") as { dict: string; items: [string, Record<string, unknown>][] } | undefined;
    expect(state?.dict).toBe("OrderedDict");
    expect(state?.items.map(([key]) => key)).toEqual([...tensors.keys()].map((key) => `'${key}'`));
    for (const [i, [key, tensor]] of [...tensors].entries()) {
      expect([key, state?.items[i]?.[1]]).toEqual([key, {
        tensor: tensor.dtype, shape: tensor.shape, stride: tensor.strides, offset: torch.storageOf(tensor).offset,
        grad: tensor.requiresGrad, bytes: Buffer.from(tensor.bytes()).toString("hex"),
      }]);
    }
    for (const tensor of tensors.values()) tensor.dispose();
  });

  test("sees the same after we have read and written its files", async () => {
    const names = [
      "vit_stopgrad_adamw_zip.pth.tar", "vitmini_adamw_cuda0_legacy.pth.tar", "resnet_lars_zip.pth.tar", "lincls_vit_legacy.pth.tar",
      "odd_zip.pth.tar",
    ];
    const originals = names.map((name) => fixturePath(`checkpoints/${name}`));
    const copies = names.map((name) => join(folder, name));
    for (const [i, original] of originals.entries()) {
      const value = await readCheckpoint<Record<string, unknown>>(original, { tagFloats: true });
      await writeCheckpoint(copies[i] as string, value, { keepRequiresGrad: true });
      disposeAll(value);
    }
    const loaded = runPython<unknown[]>(DESCRIBE, [...copies, "--", ...originals]);
    for (const [i, name] of names.entries()) expect([name, loaded[i]]).toEqual([name, loaded[names.length + i]]);
  });
});

function disposeAll(value: unknown): void {
  if (value instanceof torch.Tensor) value.dispose();
  else if (value instanceof Map) for (const item of value.values()) disposeAll(item);
  else if (typeof value === "object" && value !== null) for (const item of Object.values(value)) disposeAll(item);
}
