import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import {
  OrderedDict, PythonFloat, PythonTuple, readCheckpoint, writeCheckpoint, type Checkpoint,
} from "../../lib/checkpoint/index.js";
import * as torch from "../../lib/torch/index.js";
import { Tensor, type DType } from "../../lib/torch/index.js";
import { fixturePath } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

const folder = temporaryFolder("checkpoint");
expectNoTensorsLeft();

/** A value with each tensor replaced by all that must survive: bytes, geometry, and which storage it shares. */
function described(root: unknown): unknown {
  const storages = new Map<bigint, number>();
  const visit = (value: unknown): unknown => {
    if (value instanceof Tensor) {
      const { id, offset } = torch.storageOf(value);
      if (!storages.has(id)) storages.set(id, storages.size);
      return {
        dtype: value.dtype, shape: value.shape, strides: value.strides, offset, storage: storages.get(id), requiresGrad: value.requiresGrad,
        bytes: Buffer.from(value.bytes()).toString("hex"),
      };
    }
    if (value instanceof Map) return [value.constructor.name, ...Array.from(value, ([key, item]) => [key, visit(item)])];
    if (value instanceof PythonFloat) return { float: value.value };
    if (Array.isArray(value)) return [value.constructor.name, ...Array.from(value, visit)];
    if (typeof value === "object" && value !== null) return Object.entries(value).map(([key, item]) => [key, visit(item)]);
    return value;
  };
  return visit(root);
}

function disposeAll(value: unknown): void {
  if (value instanceof Tensor) value.dispose();
  else if (value instanceof Map) for (const item of value.values()) disposeAll(item);
  else if (typeof value === "object" && value !== null) for (const item of Object.values(value)) disposeAll(item);
}

const fixtures = readdirSync(fixturePath("checkpoints")).filter((name) => name.endsWith(".pth.tar"));

test.each(fixtures)("%s: read, written and read again", async (name) => {
  const first = await readCheckpoint(fixturePath(`checkpoints/${name}`), { tagFloats: true });
  const path = join(folder, name);
  await writeCheckpoint(path, first, { keepRequiresGrad: true });
  const second = await readCheckpoint(path, { tagFloats: true });
  expect(described(second)).toEqual(described(first));
  expect((second.state_dict as OrderedDict).attributes).toEqual((first.state_dict as OrderedDict).attributes);
  disposeAll(first);
  disposeAll(second);
});

test("writing the same value twice gives the same bytes", async () => {
  const { readFile } = await import("node:fs/promises");
  const tensor = torch.tensor([1, 2, 3]);
  const files = [join(folder, "a.pth"), join(folder, "b.pth")];
  for (const file of files) await writeCheckpoint(file, { tensor, epoch: 1 });
  const [a, b] = await Promise.all(files.map((file) => readFile(file)));
  expect(a?.equals(b as Buffer)).toBe(true);
  tensor.dispose();
});

describe("tensors of every dtype", () => {
  const dtypes = Object.keys(torch.dtypes) as DType[];

  test.each(dtypes)("%s", async (dtype) => {
    const { itemSize, kind } = torch.dtypes[dtype];
    const bytes = Uint8Array.from({ length: 24 * itemSize }, (_, i) => (kind === "bool" ? i % 2 : (i * 37) % 256));
    const whole = torch.fromBytes(bytes, [2, 3, 4], dtype);
    const value = torch.scope(() => ({
      whole, permuted: whole.permute([2, 0, 1]), row: whole.select(0, 1), empty: whole.narrow(0, 1, 0),
      scalar: whole.select(0, 0).select(0, 0).select(0, 3), strided: whole.slice(2, 0, 4, 2),
      expanded: whole.narrow(0, 0, 1).expand([5, 3, 4]),
    }));
    const path = join(folder, `${dtype}.pth`);
    await writeCheckpoint(path, value);
    const result = await readCheckpoint<typeof value>(path);
    expect(Buffer.from(result.whole.bytes()).equals(bytes)).toBe(true);
    for (const [key, tensor] of Object.entries(value) as [keyof typeof value, Tensor][]) {
      const other = result[key];
      expect([key, other.dtype, other.shape, other.strides, torch.storageOf(other).offset]).toEqual([
        key, dtype, tensor.shape, tensor.strides, torch.storageOf(tensor).offset,
      ]);
      expect(torch.storageOf(other).id).toBe(torch.storageOf(result.whole).id);
    }
    disposeAll(value);
    disposeAll(result);
  });
});

test("a training checkpoint keeps the types that PyTorch's loaders look at", async () => {
  const weight = torch.tensor([[1, 2], [3, 4]]);
  const step = torch.tensor(3);
  const path = join(folder, "training.pth.tar");
  await writeCheckpoint(path, {
    epoch: 1,
    arch: "vit_small",
    state_dict: new OrderedDict([["module.weight", weight]]),
    optimizer: {
      state: new Map([[0, new Map([["step", step], ["exp_avg", weight]])]]),
      param_groups: [{ lr: new PythonFloat(1), betas: PythonTuple.fromArray([0.9, 0.999]), params: [0, 1] }],
    },
    scaler: {},
  });
  const result = await readCheckpoint<Checkpoint>(path, { tagFloats: true });
  expect(result.epoch).toBe(1);
  expect(result.state_dict).toBeInstanceOf(OrderedDict);
  expect(result.state_dict?.get("module.weight")?.toArray()).toEqual([[1, 2], [3, 4]]);
  expect([...(result.optimizer?.state ?? new Map()).keys()]).toEqual([0]);
  expect(result.optimizer?.param_groups[0]).toMatchObject({ lr: { value: 1 }, params: [0, 1] });
  expect(result.optimizer?.param_groups[0]?.["betas"]).toBeInstanceOf(PythonTuple);
  // One storage in memory is one storage in the file, across the whole value.
  const average = result.optimizer?.state.get(0)?.["exp_avg"] as Tensor;
  expect(torch.storageOf(average).id).toBe(torch.storageOf(result.state_dict?.get("module.weight") as Tensor).id);
  disposeAll(result);
  weight.dispose();
  step.dispose();
});

test("parameters are written as PyTorch's state dicts have them, detached", async () => {
  const weight = torch.tensor([1]).requiresGrad_();
  const path = join(folder, "parameter.pth");
  for (const keepRequiresGrad of [false, true]) {
    await writeCheckpoint(path, { weight }, { keepRequiresGrad });
    const result = await readCheckpoint<{ weight: Tensor }>(path);
    expect(result.weight.requiresGrad).toBe(keepRequiresGrad);
    disposeAll(result);
  }
  weight.dispose();
});

test("a large tensor streams through several parts", async () => {
  const large = torch.arange(5_000_000, { dtype: "float32" });
  const path = join(folder, "large.pth");
  await writeCheckpoint(path, { large });
  const result = await readCheckpoint<{ large: Tensor }>(path);
  expect(torch.equal(result.large, large)).toBe(true);
  disposeAll(result);
  large.dispose();
});

test("a file that fails in its tensors leaves none behind", async () => {
  const before = torch.memory().tensors;
  await expect(readCheckpoint(fixturePath("unsafe/13_zip_wrong_crc.pth"))).rejects.toMatchObject({
    name: "CheckpointError", entry: "archive/data/0",
  });
  expect(torch.memory().tensors).toBe(before);
});

test("a missing file and a folder are named", async () => {
  for (const [path, reason] of [[join(folder, "none.pth"), /no such file/], [folder, /not a regular file/]] as const) {
    await expect(readCheckpoint(path)).rejects.toMatchObject({ name: "CheckpointError", reason: expect.stringMatching(reason) });
  }
});

test("a tensor that is gone, or is no plain one, is refused", async () => {
  const gone = torch.tensor([1]);
  gone.dispose();
  await expect(writeCheckpoint(join(folder, "gone.pth"), { gone })).rejects.toMatchObject({
    name: "CheckpointError", reason: expect.stringMatching(/disposed/),
  });
  const conjugate = torch.scope(() => torch.conj(torch.fromBytes(new Uint8Array(16), [2], "complex64")));
  await expect(writeCheckpoint(join(folder, "conjugate.pth"), { conjugate })).rejects.toMatchObject({
    reason: expect.stringMatching(/conjugation/),
  });
  conjugate.dispose();
  expect(readdirSync(folder).filter((name) => name.startsWith("gone") || name.startsWith(".") || name.startsWith("conj"))).toEqual([]);
});
