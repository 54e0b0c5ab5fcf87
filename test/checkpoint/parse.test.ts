import { readdirSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import { FileSource } from "../../lib/checkpoint/byteSource.js";
import { defaultLimits } from "../../lib/checkpoint/limits.js";
import { parseCheckpoint } from "../../lib/checkpoint/parse.js";
import { PythonFloat, PythonTuple, TorchSize, type OrderedDict } from "../../lib/checkpoint/pythonValues.js";
import { TensorReference, type StorageReference } from "../../lib/checkpoint/references.js";
import { toJavaScript } from "../../lib/checkpoint/structure.js";
import { fixturePath, readJson } from "../support/fixtures.js";
import { elementsInOrder } from "./elements.js";

interface TensorLeaf {
  path: (string | number)[];
  dtype: string;
  shape: number[];
  stride: number[];
  storage_offset: number;
  requires_grad?: boolean;
  parameter?: boolean;
  sum: number | string;
  first4: (number | string)[];
}

interface ScalarLeaf {
  path: (string | number)[];
  type: string;
  value?: unknown;
}

const names = readdirSync(fixturePath("checkpoints")).filter((name) => name.endsWith(".pth.tar"));

async function readReferences(name: string): Promise<{ value: unknown; bytes: Map<StorageReference, Uint8Array> }> {
  const source = await FileSource.open(fixturePath(`checkpoints/${name}`));
  try {
    const parsed = await parseCheckpoint(source, { limits: defaultLimits, unknownGlobals: "error", tagFloats: true });
    const bytes = new Map<StorageReference, Uint8Array>();
    for (const { reference, load } of parsed.storages) {
      const target = new Uint8Array(reference.byteLength);
      await load([target]);
      bytes.set(reference, target);
    }
    return { value: toJavaScript(parsed.value, (reference) => reference), bytes };
  } finally {
    await source.close();
  }
}

/** Walks to a leaf. A number in a path is a dict key or a list index, whichever fits. */
function at(root: unknown, path: (string | number)[]): unknown {
  let value = root;
  for (const step of path) {
    if (value instanceof Map) {
      expect([...value.keys()]).toContain(step);
      value = value.get(step);
    } else {
      expect(Object.keys(value as object)).toContain(String(step));
      value = (value as Record<string | number, unknown>)[step];
    }
  }
  return value;
}

/** Counts leaves the way the lists do: a tuple is one leaf, and so are an empty list, an empty dict and a list of plain numbers. */
function countLeaves(value: unknown): { tensors: number; scalars: number } {
  if (value instanceof TensorReference) return { tensors: 1, scalars: 0 };
  let children: unknown[] | null = null;
  if (value instanceof Map) children = [...value.values()];
  else if (value instanceof PythonTuple || value instanceof PythonFloat || value === null || typeof value !== "object") children = [];
  else if (Array.isArray(value)) children = value.every((item) => Number.isInteger(item)) ? [] : value;
  else children = Object.values(value);
  if (children.length === 0) return { tensors: 0, scalars: 1 };
  const total = { tensors: 0, scalars: 0 };
  for (const child of children) {
    const { tensors, scalars } = countLeaves(child);
    total.tensors += tensors;
    total.scalars += scalars;
  }
  return total;
}

function kindOf(value: unknown): string {
  if (value === null) return "NoneType";
  if (value instanceof TorchSize) return "Size";
  if (value instanceof PythonTuple) return "tuple";
  if (Array.isArray(value)) return "list";
  if (value instanceof PythonFloat) return "float";
  if (typeof value === "boolean") return "bool";
  if (typeof value === "string") return "str";
  if (typeof value === "bigint") return "int";
  if (typeof value === "number") return Number.isInteger(value) ? "int" : "float";
  return Object.keys(value as object).length === 0 ? "empty dict" : "dict";
}

/** A value in the notation of the lists: big integers and non-finite floats are strings there. */
function listed(value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  if (value instanceof PythonFloat) return value.value;
  if (typeof value === "number" && !Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
  if (Array.isArray(value)) return Array.from(value, listed);
  return value;
}

describe.each(names)("%s", (name) => {
  const list = readJson<{ tensors: TensorLeaf[]; scalars: ScalarLeaf[] }>(`checkpoints/${name.replace(/\.pth\.tar$/, ".list.json")}`);

  test("every leaf is what the list says", async () => {
    const { value, bytes } = await readReferences(name);
    for (const leaf of list.tensors) {
      const tensor = at(value, leaf.path);
      if (!(tensor instanceof TensorReference)) throw new Error(`${leaf.path.join("/")} is not a tensor`);
      expect({
        path: leaf.path, dtype: tensor.dtype, shape: tensor.size, stride: tensor.stride, offset: tensor.offset,
        requiresGrad: tensor.requiresGrad, parameter: tensor.isParameter,
      }).toEqual({
        path: leaf.path, dtype: leaf.dtype, shape: leaf.shape, stride: leaf.stride, offset: leaf.storage_offset,
        requiresGrad: leaf.requires_grad ?? false, parameter: leaf.parameter ?? false,
      });
      const elements = elementsInOrder(tensor, bytes.get(tensor.storage) as Uint8Array);
      expect([leaf.path, elements.slice(0, 4).map(listed)]).toEqual([leaf.path, leaf.first4]);
      const sum = elements.reduce<number>((total, element) => total + Number(element), 0);
      const magnitude = elements.reduce<number>((total, element) => total + Math.abs(Number(element)), 0);
      if (typeof leaf.sum === "string") expect(listed(sum)).toBe(leaf.sum);
      else expect(Math.abs(sum - leaf.sum)).toBeLessThanOrEqual(1e-12 * magnitude);
    }
    for (const leaf of list.scalars) {
      const scalar = at(value, leaf.path);
      expect([leaf.path, kindOf(scalar)]).toEqual([leaf.path, leaf.type]);
      if (leaf.type !== "empty dict") expect([leaf.path, listed(scalar)]).toEqual([leaf.path, leaf.value]);
    }
    // Nothing beyond the lists either.
    expect(countLeaves(value)).toEqual({ tensors: list.tensors.length, scalars: list.scalars.length });
  });
});

test("storages that tensors share stay shared", async () => {
  for (const name of ["odd_zip.pth.tar", "odd_legacy.pth.tar"]) {
    const { value } = await readReferences(name);
    const state = (value as { state_dict: Map<string, TensorReference> }).state_dict;
    const base = state.get("base") as TensorReference;
    for (const key of ["base_t", "base_rows_2_5", "base_col_3", "base_strided"]) expect(state.get(key)?.storage).toBe(base.storage);
    expect(state.get("double")?.storage).not.toBe(base.storage);
  }
});

test("state dicts keep their order and the modules' versions", async () => {
  const { value } = await readReferences("resnet_lars_zip.pth.tar");
  const { state_dict: state } = value as { state_dict: OrderedDict };
  expect([...state.keys()].slice(0, 3)).toEqual([
    "module.base_encoder.conv1.weight", "module.base_encoder.bn1.weight", "module.base_encoder.bn1.bias",
  ]);
  const metadata = state.attributes?.["_metadata"] as Map<string, { version: number }>;
  expect(metadata.get("")).toEqual({ version: 1 });
  expect(metadata.get("module.base_encoder.bn1")).toEqual({ version: 2 });
});

test("storages keep their device tag", async () => {
  for (const name of ["vitmini_adamw_cuda0_zip.pth.tar", "vitmini_adamw_cuda0_legacy.pth.tar"]) {
    const { value } = await readReferences(name);
    const [first] = (value as { state_dict: Map<string, TensorReference> }).state_dict.values();
    expect(first?.storage.location).toBe("cuda:0");
  }
});
