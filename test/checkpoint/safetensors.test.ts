import { copyFileSync, readdirSync, readFileSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { disposeTensors, OrderedDict, readCheckpoint, writeCheckpoint } from "../../lib/checkpoint/index.js";
import * as torch from "../../lib/torch/index.js";
import { Tensor, type DType } from "../../lib/torch/index.js";
import { fixturePath, readJson } from "../support/fixtures.js";
import { runPython, testPython } from "../support/python.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { temporaryFolder } from "../support/temporaryFolder.js";

type State = OrderedDict<string, Tensor>;

interface Expected {
  metadata: Record<string, string> | null;
  tensors: { name: string; dtype: string; shape: number[]; bytes: string }[];
}

const expected = readJson<Record<string, Expected>>("safetensors/expected.json");

const folder = temporaryFolder("safetensors");
expectNoTensorsLeft();

function listed(state: ReadonlyMap<string, Tensor>): Expected["tensors"] {
  return [...state].map(([name, tensor]) => ({
    name, dtype: tensor.dtype, shape: [...tensor.shape], bytes: Buffer.from(tensor.bytes()).toString("hex"),
  }));
}

function golden(name: string): string {
  return fixturePath(`safetensors/${name}.safetensors`);
}

function patterned(dtype: DType, shape: number[], seed = 0): Tensor {
  const { itemSize, kind } = torch.dtypes[dtype];
  const length = shape.reduce((product, size) => product * size, itemSize);
  return torch.fromBytes(Uint8Array.from({ length }, (_, i) => (37 * i + seed) % (kind === "bool" ? 2 : 251)), shape, dtype);
}

describe.each(Object.keys(expected))("%s.safetensors", (name) => {
  const { metadata, tensors } = expected[name] as Expected;

  test("gives what Python gives, in Python's order", async () => {
    const state = await readCheckpoint<State>(golden(name));
    expect(state).toBeInstanceOf(OrderedDict);
    // Where several tensors without elements lie at one place, Python's order is left to chance; ours is that of the header.
    if (name === "other_writer") expect([...state.keys()]).toEqual(["first", "void.b", "void.a", "second"]);
    expect(listed(state)).toEqual(name === "other_writer" ? expect.arrayContaining(tensors) : tensors);
    expect(state.size).toBe(tensors.length);
    const read = state.attributes?.["metadata"] as Record<string, string>;
    expect(Object.entries(read).sort()).toEqual(Object.entries(metadata ?? {}).sort());
    expect(({} as { text?: string }).text).toBeUndefined();
    for (const tensor of state.values()) {
      expect(tensor.isContiguous()).toBe(true);
      expect(torch.storageOf(tensor)).toMatchObject({ offset: 0, bytes: tensor.numel() * torch.dtypes[tensor.dtype].itemSize });
    }
    expect(new Set([...state.values()].map((tensor) => torch.storageOf(tensor).id)).size).toBe(tensors.length);
    disposeTensors(state);
  });

  test("read, written and read again", async () => {
    const state = await readCheckpoint<State>(golden(name));
    const path = join(folder, `again-${name}.safetensors`);
    await writeCheckpoint(path, state, { format: "safetensors", metadata: metadata ?? {} });
    const again = await readCheckpoint<State>(path);
    expect(listed(again).sort((a, b) => (a.name < b.name ? -1 : 1))).toEqual(listed(state).sort((a, b) => (a.name < b.name ? -1 : 1)));
    expect(again.attributes).toEqual({ metadata: { format: "pt", ...metadata } });
    disposeTensors(state);
    disposeTensors(again);
  });
});

test.each(["dtypes", "shapes"])("%s: what we write is what Python's save_file writes, to the byte", async (name) => {
  const state = await readCheckpoint<State>(golden(name));
  const shuffled = new Map([...state].reverse());
  const path = join(folder, `same-${name}.safetensors`);
  await writeCheckpoint(path, shuffled, { format: "safetensors" });
  expect(readFileSync(path).equals(readFileSync(golden(name)))).toBe(true);
  disposeTensors(state);
});

test("a file is known by its content, also where its first byte is that of a pickle", async () => {
  const state = { weight: torch.tensor([1, 2, 3]) };
  const lengths = new Set<number>();
  // Headers of every length from 96 to 416, so that the low byte of the length takes every value a multiple of 8 can have.
  for (let length = 0; length <= 320; length += 8) {
    const path = join(folder, "renamed.pth.tar");
    await writeCheckpoint(path, state, { format: "safetensors", metadata: { text: "x".repeat(length) } });
    lengths.add(readFileSync(path)[0] as number);
    const read = await readCheckpoint<State>(path);
    expect(read.get("weight")?.toArray()).toEqual([1, 2, 3]);
    disposeTensors(read);
  }
  expect(lengths.size).toBe(32);
  expect(lengths).toContain(0x80);
  state.weight.dispose();
});

test("a tensor's own memory is what is written, and every layout is written contiguous", async () => {
  const whole = patterned("float32", [2, 3, 4]);
  const complex = patterned("complex64", [3]);
  const state = torch.scope(() => ({
    whole, permuted: whole.permute([2, 0, 1]), row: whole.select(0, 1), strided: whole.slice(2, 0, 4, 2), empty: whole.narrow(0, 1, 0),
    scalar: whole.select(0, 0).select(0, 0).select(0, 3), expanded: whole.narrow(0, 0, 1).expand([5, 3, 4]),
    parameter: patterned("float32", [2]).requiresGrad_(), conjugate: torch.conj(complex) as Tensor,
  }));
  const path = join(folder, "layouts.safetensors");
  const live = torch.memory().tensors;
  await writeCheckpoint(path, state, { format: "safetensors" });
  expect(torch.memory().tensors).toBe(live);
  const read = await readCheckpoint<State>(path);
  for (const [name, tensor] of Object.entries(state)) {
    const other = read.get(name) as Tensor;
    expect([name, other.dtype, [...other.shape], other.isContiguous(), other.requiresGrad]).toEqual([
      name, tensor.dtype, [...tensor.shape], true, false,
    ]);
    expect([name, other.toArray()]).toEqual([name, torch.scope(() => (torch.resolveConj(tensor) as Tensor).toArray())]);
  }
  expect(read.get("conjugate")?.toArray()).not.toEqual(complex.toArray());
  disposeTensors(read);
  disposeTensors(state);
  complex.dispose();
});

test("a larger tensor streams through", async () => {
  const large = torch.arange(20_000_000, { dtype: "float32" });
  const path = join(folder, "large.safetensors");
  const small = large.narrow(0, 5, 3);
  await writeCheckpoint(path, { large, small }, { format: "safetensors" });
  const read = await readCheckpoint<State>(path, { device: "cpu" });
  expect(torch.equal(read.get("large") as Tensor, large)).toBe(true);
  expect(read.get("small")?.toArray()).toEqual([5, 6, 7]);
  disposeTensors([read, large, small]);
  await rm(path);
});

test("metadata are kept, and say pt unless they say otherwise", async () => {
  const weight = torch.tensor([1]);
  const path = join(folder, "metadata.safetensors");
  const cases: [Record<string, string>, Record<string, string>][] = [
    [{}, { format: "pt" }], [{ a: "b" }, { format: "pt", a: "b" }], [{ format: "np" }, { format: "np" }],
  ];
  for (const [metadata, kept] of cases) {
    await writeCheckpoint(path, { weight }, { format: "safetensors", metadata });
    const read = await readCheckpoint<State>(path);
    expect(read.attributes).toEqual({ metadata: kept });
    disposeTensors(read);
  }
  weight.dispose();
});

describe("what cannot be written is named, and nothing is left behind", () => {
  const cases: [string, () => unknown, object, RegExp][] = [
    [
      "a training checkpoint", () => ({ weight: torch.tensor([1]), epoch: 3 }), { entry: "epoch" },
      /a number.*tensors only.*state_dict.*format "zip"/,
    ],
    ["a nested state dict", () => ({ state_dict: new OrderedDict() }), { entry: "state_dict" }, /OrderedDict.*tensors only/],
    ["null", () => ({ weight: null }), { entry: "weight" }, /it is null/],
    ["a tensor alone", () => torch.tensor([1]), { entry: null }, /by name/],
    ["an array", () => [torch.tensor([1])], { entry: null }, /by name/],
    ["nothing", () => null, { entry: null }, /by name/],
    ["a key that is no string", () => new Map([[0, torch.tensor([1])]]), { entry: null }, /the key 0 is a number/],
    ["the metadata's name", () => ({ __metadata__: torch.tensor([1]) }), { entry: "__metadata__" }, /rename/],
    ["half a surrogate pair", () => ({ "\ud800": torch.tensor([1]) }), {}, /surrogate.*rename/],
    ["complex128", () => ({ weight: patterned("complex128", [2]) }), { entry: "weight" }, /no complex128; convert.*complex64/],
    ["complex32", () => ({ weight: patterned("complex32", [2]) }), { entry: "weight" }, /no complex32/],
    [
      "a sparse tensor", () => ({ weight: torch.scope(() => torch.op("to_sparse")(torch.tensor([[0, 1]])) as Tensor) }),
      { entry: "weight" }, /dense/,
    ],
  ];

  test.each(cases)("%s", async (_name, make, where, reason) => {
    const value = make();
    const path = join(folder, "refused.safetensors");
    await expect(writeCheckpoint(path, value, { format: "safetensors" })).rejects.toMatchObject({
      name: "CheckpointError", file: path, ...where, reason: expect.stringMatching(reason),
    });
    expect(readdirSync(folder).filter((name) => name.includes("refused"))).toEqual([]);
    disposeTensors(value);
  });

  test("a tensor that is gone", async () => {
    const weight = torch.tensor([1]);
    weight.dispose();
    await expect(writeCheckpoint(join(folder, "refused.safetensors"), { weight }, { format: "safetensors" })).rejects.toMatchObject({
      name: "CheckpointError", entry: "weight", reason: expect.stringMatching(/disposed/),
    });
  });

  test("metadata that are no text, or belong to no such format; an unknown format", async () => {
    const path = join(folder, "refused.safetensors");
    const refused = (options: object): Promise<void> => expect(writeCheckpoint(path, {}, options)).rejects.toMatchObject({
      name: "CheckpointError", reason: expect.stringMatching(/String\(value\)|surrogate|format "safetensors"|"zip" or "safetensors"/),
    });
    await refused({ format: "safetensors", metadata: { epoch: 3 } });
    await refused({ format: "safetensors", metadata: { text: "\udc00" } });
    await refused({ metadata: { text: "x" } });
    await refused({ format: "onnx" });
  });

  test("a disk that fails leaves the old file", async () => {
    const path = join(folder, "kept.safetensors");
    copyFileSync(golden("bare"), path);
    const weight = torch.tensor([1]);
    await expect(writeCheckpoint(join(path, "below.safetensors"), { weight }, { format: "safetensors" })).rejects.toMatchObject({
      name: "CheckpointError", reason: expect.stringMatching(/Create the folder first/),
    });
    expect(readFileSync(path).equals(readFileSync(golden("bare")))).toBe(true);
    weight.dispose();
  });
});

test("a damaged file leaves no tensors behind", async () => {
  const live = torch.memory().tensors;
  const path = join(folder, "cut.safetensors");
  await writeFile(path, readFileSync(golden("dtypes")).subarray(0, -1));
  await expect(readCheckpoint(path)).rejects.toMatchObject({
    name: "CheckpointError", entry: "bool", reason: expect.stringMatching(/cut short/),
  });
  expect(torch.memory().tensors).toBe(live);
});

/** Loads files with `load_file` and with `safe_open`, and prints what they hold. */
const DESCRIBE = `
import json, sys, torch
from safetensors import safe_open
from safetensors.torch import load_file
def describe(path):
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        assert set(file.keys()) == set(tensors)
        for key in file.keys():
            one = file.get_tensor(key)
            assert one.dtype == tensors[key].dtype and one.shape == tensors[key].shape
    return {"metadata": metadata, "tensors": [{"name": key, "dtype": str(value.dtype)[6:], "shape": list(value.shape),
            "bytes": bytes(value.reshape(-1).view(torch.uint8).tolist()).hex() if value.numel() else ""} for key, value in tensors.items()]}
print(json.dumps([describe(path) for path in sys.argv[1:]]))
`;

(testPython === null ? describe.skip : describe)("Python's safetensors", () => {
  test("opens what we write", async () => {
    const dtypes = (Object.keys(torch.dtypes) as DType[]).filter((dtype) => dtype !== "complex32" && dtype !== "complex128");
    const state = new Map(dtypes.map((dtype, i) => [`layer.${dtype}`, patterned(dtype, [3, 5], i)]));
    state.set("transposed", (state.get("layer.float32") as Tensor).t());
    state.set("größe ✓😀", torch.tensor(7, [], { dtype: "int64" }));
    state.set("empty", torch.zeros([0, 3], { dtype: "float16" }));
    const path = join(folder, "python.safetensors");
    await writeCheckpoint(path, state, { format: "safetensors", metadata: { arch: "vit_small", note: "größe \"\\\n" } });
    const bare = join(folder, "none.safetensors");
    await writeCheckpoint(bare, {}, { format: "safetensors" });
    const [loaded, none] = runPython<Expected[]>(DESCRIBE, [path, bare]);
    expect(loaded?.metadata).toEqual({ format: "pt", arch: "vit_small", note: "größe \"\\\n" });
    const ours = await readCheckpoint<State>(path);
    expect(loaded?.tensors).toEqual(listed(ours));
    const given = new Map(listed(state).map((tensor) => [tensor.name, tensor]));
    expect(new Map(loaded?.tensors.map((tensor) => [tensor.name, tensor]))).toEqual(given);
    expect(none).toEqual({ metadata: { format: "pt" }, tensors: [] });
    disposeTensors(state);
    disposeTensors(ours);
  });

  test("sees in the golden files what the list says", () => {
    const names = Object.keys(expected).filter((name) => name !== "other_writer");
    expect(runPython<Expected[]>(DESCRIBE, names.map(golden))).toEqual(names.map((name) => expected[name]));
  });
});
