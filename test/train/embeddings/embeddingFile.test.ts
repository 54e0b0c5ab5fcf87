import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import * as torch from "../../../lib/torch/index.js";
import { readEmbeddings, writeEmbeddings } from "../../../lib/train/embeddings/embeddingFile.js";
import type { EmbeddingRows } from "../../../lib/train/embeddings/embeddings.js";
import { fixturePath, readJson } from "../../support/fixtures.js";
import { runPython, testPython } from "../../support/python.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";

expectNoTensorsLeft();

const folder = temporaryFolder("embeddings");
const expected = readJson<{ names: string[]; values: number[] }>("embeddings/expected.json");
const golden = (name: string): string => fixturePath(`embeddings/${name}`);

// Jest runs tests in a context where every look-up of a global is slow.
const { fround, sin } = Math;

/** Rows that are told apart by every value. */
function madeUp(count: number, dim: number): { names: string[]; features: torch.Tensor } {
  const values = Float32Array.from({ length: count * dim }, (_, i) => fround(sin(i) * 10 ** ((i % 41) - 20)));
  return { names: Array.from({ length: count }, (_, i) => `folder ${i % 7}/"image"\n${i}.é日.jpg`), features: torch.tensor(values, [count, dim]) };
}

describe("files of Python's libraries are read", () => {
  test.each(["features.npy", "features.snappy.parquet", "features.zstd.parquet", "features.jsonl", "features.safetensors"])("%s", async (name) => {
    using read = await readEmbeddings(golden(name));
    expect(read.names).toEqual(expected.names);
    expect(read.features.shape).toEqual([3, 4]);
    expect(read.features.dtype).toBe("float32");
    expect([...(read.features.data() as Float32Array)]).toEqual(expected.values);
  });

  test("float16 and float64 become float32", async () => {
    using half = await readEmbeddings(golden("half.npy"));
    expect(half.features.dtype).toBe("float32");
    expect((half.features.data() as Float32Array)[0]).toBeCloseTo(-5 / 7, 3);
    using fixed = await readEmbeddings(golden("fixed.parquet"));
    expect([...(fixed.features.data() as Float32Array)]).toEqual([1.5, 2.5, 3.5, 4.5]);
  });
});

describe.each([".npy", ".parquet", ".jsonl", ".safetensors"])("%s", (ending) => {
  // More rows than a row group of a Parquet file, and than a chunk.
  test.each([[1, 1], [2800, 384], [2, 4096]])("gives back %i rows of %i values, to the bit", async (count, dim) => {
    const made = madeUp(count, dim);
    using features = made.features;
    const path = join(folder, `back${ending}`);
    await writeEmbeddings(path, made);
    using read = await readEmbeddings(path);
    expect(read.names).toEqual(made.names);
    expect(torch.equal(read.features, features)).toBe(true);
    expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test("rows in chunks of any size give the same bytes as a tensor", async () => {
    const made = madeUp(700, 96);
    using features = made.features;
    await writeEmbeddings(join(folder, `whole${ending}`), made);
    const values = features.data() as Float32Array;
    const rows: EmbeddingRows = {
      count: 700, dim: 96,
      async *chunks() {
        for (let first = 0, size = 1; first < 700; first += size, size = (size * 3) % 101) {
          yield { names: made.names.slice(first, first + size), features: values.subarray(first * 96, (first + size) * 96) };
        }
      },
    };
    await writeEmbeddings(join(folder, `chunked${ending}`), rows);
    expect(readFileSync(join(folder, `chunked${ending}`)).equals(readFileSync(join(folder, `whole${ending}`)))).toBe(true);
  });

  test("a file that is cut short, or has other bytes, is an EmbeddingFileError", async () => {
    const made = madeUp(40, 8);
    using _features = made.features;
    const path = join(folder, `cut${ending}`);
    await writeEmbeddings(path, made);
    const bytes = readFileSync(path);
    for (let end = 0; end < bytes.length; end += 97) {
      writeFileSync(path, bytes.subarray(0, end));
      await expect(readEmbeddings(path)).rejects.toThrow(expect.objectContaining({ name: "EmbeddingFileError" }));
    }
    for (let at = 0; at < bytes.length; at += 61) {
      const damaged = Buffer.from(bytes);
      damaged[at]! ^= 0xff;
      writeFileSync(path, damaged);
      // A flipped bit of a value is another value; anything else is told.
      await readEmbeddings(path).then((read) => read[Symbol.dispose](), (error: Error) => expect(error.name).toBe("EmbeddingFileError"));
    }
  });

  test("values that are not finite are named", async () => {
    using features = torch.tensor([[1, 2], [3, NaN]]);
    const path = join(folder, `nan${ending}`);
    await writeEmbeddings(path, { names: ["a", "b"], features });
    const reason = ending === ".jsonl" ? /line 2 is no object/ : /row 1 \("b"\) are not finite/;
    await expect(readEmbeddings(path)).rejects.toThrow(reason);
  });
});

describe("what cannot be read says what to do", () => {
  test.each([
    ["fortran.npy", /ascontiguousarray/], ["ints.npy", /"<i8"; embeddings are float32/], ["flat.npy", /shape \(12\)/],
    ["null.parquet", /row 1 has no file name or no embedding without gaps/],
  ])("%s", async (name, reason) => {
    await expect(readEmbeddings(golden(name))).rejects.toThrow(reason);
  });

  test("files of other kinds, without names, with too many, or none at all", async () => {
    await expect(readEmbeddings(join(folder, "features.h5"))).rejects.toThrow(/end in \.npy, \.parquet, \.jsonl, \.safetensors/);
    await expect(readEmbeddings(join(folder, "none.npy"))).rejects.toThrow(/there is no such file/);
    const path = join(folder, "alone.npy");
    copyFileSync(golden("features.npy"), path);
    await expect(readEmbeddings(path)).rejects.toThrow(/the names of its rows are missing: there is no .*alone\.names\.jsonl/);
    writeFileSync(join(folder, "alone.names.jsonl"), '"a"\n"b"\n');
    await expect(readEmbeddings(path)).rejects.toThrow(/has 3 rows and .* 2 names/);
    writeFileSync(join(folder, "alone.names.jsonl"), '"a"\n"b"\n"c"\n"d"\n');
    await expect(readEmbeddings(path)).rejects.toThrow(/3 rows and .* more names/);
    writeFileSync(join(folder, "alone.names.jsonl"), '"a"\nb\n');
    await expect(readEmbeddings(path)).rejects.toThrow(/line 2 is no JSON string/);
  });

  test("sizes that a file cannot hold take no memory", async () => {
    const path = join(folder, "hostile.npy");
    const bytes = readFileSync(golden("features.npy"));
    writeFileSync(path, bytes.toString("latin1").replace("(3, 4), }       ", "(99999999, 4), }"), "latin1");
    await expect(readEmbeddings(path)).rejects.toThrow(/takes 1599999984 bytes and 48 follow/);
    const lines = join(folder, "hostile.jsonl");
    writeFileSync(lines, `{"file":"a","embedding":[${"1,".repeat(30_000)}1]}\n${"\n".repeat(1_000_000)}`);
    await expect(readEmbeddings(lines)).rejects.toThrow(/line 1 has 30001 values, which 1000001 lines of .* cannot have/);
  });
});

(testPython === null ? describe.skip : describe)("Python", () => {
  test("reads what we write: numpy, pyarrow, pandas' JSON, safetensors", async () => {
    const made = madeUp(3000, 384);
    using features = made.features;
    for (const ending of [".npy", ".parquet", ".jsonl", ".safetensors"]) await writeEmbeddings(join(folder, `python${ending}`), made);
    writeFileSync(join(folder, "expected.bin"), new Uint8Array((features.data() as Float32Array).buffer));
    const seen = runPython<Record<string, [boolean, string[]]>>(`
import json, sys, numpy as np, pyarrow.parquet as pq
from safetensors.numpy import load_file
p = sys.argv[1] + "/python"
x = np.fromfile(sys.argv[1] + "/expected.bin", dtype="<f4").reshape(3000, 384)
out = {}
a = np.load(p + ".npy")
out["npy"] = [bool((a == x).all() and a.dtype == np.float32), [json.loads(l) for l in open(p + ".names.jsonl", encoding="utf8")]]
t = pq.read_table(p + ".parquet")
assert str(t.schema.field("embedding").type) == "list<element: float not null>", t.schema
out["parquet"] = [bool((np.stack(t["embedding"].to_numpy()) == x).all()), t["file"].to_pylist()]
rows = [json.loads(l) for l in open(p + ".jsonl", encoding="utf8")]
out["jsonl"] = [bool((np.array([r["embedding"] for r in rows], dtype=np.float32) == x).all()), [r["file"] for r in rows]]
s = load_file(p + ".safetensors")
raw, ends = s["names"].tobytes(), s["name_ends"]
out["safetensors"] = [bool((s["embeddings"] == x).all()), [raw[a:b].decode() for a, b in zip([0, *ends], ends)]]
print(json.dumps(out))
`, [folder]);
    for (const format of ["npy", "parquet", "jsonl", "safetensors"]) expect(seen[format]).toEqual([true, made.names]);
  });
});
