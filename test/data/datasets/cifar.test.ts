import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { Cifar } from "../../../lib/data/datasets/cifar.js";
import { DatasetError } from "../../../lib/data/datasets/datasetError.js";
import { fixturePath, readJson } from "../../support/fixtures.js";
import { runPython, testPython } from "../../support/python.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";

const temporary = temporaryFolder("cifar");
const expected = readJson<Record<string, { classes: string[]; train: Listed; test: Listed }>>("datasets/cifar.json");
interface Listed { labels: number[]; sha256: string[] }

const listed = (images: Cifar): Listed => ({
  labels: Array.from({ length: images.length }, (_, i) => images.label(i)),
  sha256: Array.from({ length: images.length }, (_, i) => createHash("sha256").update(images.image(i).data).digest("hex")),
});

/** A copy of one of the fixtures. */
function copy(from: string, name: string): string {
  cpSync(fixturePath(`datasets/${from}`), join(temporary, name), { recursive: true });
  return join(temporary, name);
}

const failure = async (folder: string, options = {}): Promise<string> => {
  const error = await Cifar.open(folder, options).then(() => null, (thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(DatasetError);
  return (error as Error).message;
};

describe.each([
  ["CIFAR-10", "cifar-10-batches-bin"], ["CIFAR-10", "cifar-10-batches-py"],
  ["CIFAR-100", "cifar-100-binary"], ["CIFAR-100", "cifar-100-python"],
])("%s in %s", (title, folder) => {
  test.each(["train", "test"] as const)("%s: pixels, labels, order and classes are torchvision's", async (split) => {
    const images = await Cifar.open(fixturePath(`datasets/${folder}`), { split, subset: true });
    expect(images.title).toBe(title);
    expect(listed(images)).toEqual(expected[title]![split]);
    expect(images.classes).toEqual(expected[title]!.classes);
    expect(images.image(1)).toMatchObject({ width: 32, height: 32 });
  });

  test("is recognised, itself and one level above", async () => {
    const above = join(temporary, `above-${folder}`);
    copy(folder, `above-${folder}/${folder}`);
    expect(await Cifar.recognise(above)).toBe(true);
    expect(await Cifar.recognise(join(above, folder))).toBe(true);
    expect((await Cifar.open(above, { subset: true })).root).toBe(join(above, folder));
  });

  test("files that are not of the published size are refused unless a subset is asked for", async () => {
    const message = await failure(fixturePath(`datasets/${folder}`));
    expect(message).toMatch(/(data_batch_1|train)(\.bin)?/);
    expect(message).toMatch(/expected/);
    expect(message).toMatch(/unpack cifar-100?-(binary|python)\.tar\.gz again/);
  });
});

test("names say the file and the place in it, and indices outside are refused", async () => {
  const images = await Cifar.open(fixturePath("datasets/cifar-10-batches-bin"), { subset: true });
  expect(images.length).toBe(10);
  expect([0, 1, 2, 9].map((i) => images.name(i))).toEqual([
    "data_batch_1.bin, image 0", "data_batch_1.bin, image 1", "data_batch_2.bin, image 0", "data_batch_5.bin, image 1",
  ]);
  for (const index of [-1, 10, 0.5]) expect(() => images.image(index)).toThrow(/there is no image .*; the data set has 10/);
});

test("other folders are not recognised", async () => {
  mkdirSync(join(temporary, "folders/train"), { recursive: true });
  mkdirSync(join(temporary, "folders/test"));
  writeFileSync(join(temporary, "folders/meta"), "");
  for (const folder of [join(temporary, "folders"), join(temporary, "nowhere"), fixturePath("datasets/flowers")]) {
    expect(await Cifar.recognise(folder)).toBe(false);
    expect(await failure(folder)).toMatch(/holds neither CIFAR-10 nor CIFAR-100; unpack/);
  }
});

test("a folder with both asks for one of them; the binary version goes before the Python one", async () => {
  expect(await Cifar.recognise(fixturePath("datasets"))).toBe(true);
  expect(await failure(fixturePath("datasets"))).toMatch(
    /holds CIFAR-10 \(cifar-10-batches-bin\) and CIFAR-100 \(cifar-100-binary\); give the folder of one of them/,
  );
  for (const title of ["CIFAR-10", "CIFAR-100"] as const) {
    expect((await Cifar.open(fixturePath("datasets"), { title, subset: true })).title).toBe(title);
  }
  const hundred = fixturePath("datasets/cifar-100-binary");
  expect(await failure(hundred, { title: "CIFAR-10" })).toMatch(/cifar-100-binary does not hold CIFAR-10; unpack/);
  copy("cifar-10-batches-bin", "two/cifar-10-batches-bin");
  copy("cifar-10-batches-py", "two/cifar-10-batches-py");
  expect((await Cifar.open(join(temporary, "two"), { subset: true })).name(0)).toBe("data_batch_1.bin, image 0");
});

describe("damage is named", () => {
  test("in the binary version", async () => {
    const folder = copy("cifar-10-batches-bin", "damaged");
    const file = join(folder, "data_batch_3.bin");
    truncateSync(file, 3073 + 5);
    expect(await failure(folder, { subset: true })).toBe(
      `${file} has 3078 bytes where a multiple of 3073 is expected; it is cut short or another file: unpack cifar-10-binary.tar.gz again`,
    );
    expect((await Cifar.open(folder, { split: "test", subset: true })).length).toBe(2);
    truncateSync(join(folder, "test_batch.bin"), 3073);
    expect(await failure(folder, { split: "test" })).toMatch(
      /test_batch\.bin has 3073 bytes where 30730000 are expected \(10000 images of 3073\)/,
    );
    truncateSync(file, 0);
    expect(await failure(folder, { subset: true })).toMatch(/data_batch_3\.bin has 0 bytes/);
    rmSync(file);
    expect(await failure(folder, { subset: true })).toMatch(/data_batch_3\.bin is missing; unpack cifar-10-binary\.tar\.gz again/);
    writeFileSync(file, Buffer.alloc(3073, 10));
    expect(await failure(folder, { subset: true })).toMatch(/data_batch_3\.bin: image 0 has label 10, not 0 to 9/);
    writeFileSync(join(folder, "batches.meta.txt"), "airplane\n");
    expect(await failure(folder)).toMatch(/batches\.meta\.txt does not hold the names of 10 classes/);
    expect(await failure(folder, { split: "val" })).toBe('split is "val"; CIFAR has "train", "test"');
  });

  test("in the labels of CIFAR-100", async () => {
    const folder = copy("cifar-100-binary", "damaged100");
    const record = Buffer.alloc(3074, 0);
    for (const [place, label, message] of [[1, 100, "label 100, not 0 to 99"], [0, 20, "label 20 of a superclass, not 0 to 19"]] as const) {
      record.fill(0)[place] = label;
      writeFileSync(join(folder, "train.bin"), record);
      expect(await failure(folder, { subset: true })).toContain(`train.bin: image 0 has ${message}`);
    }
  });

  test("in the Python version, of which nothing is run", async () => {
    const folder = copy("cifar-10-batches-py", "damagedPickle");
    const file = join(folder, "data_batch_1");
    const original = readFileSync(file);
    truncateSync(file, 5000);
    expect(await failure(folder, { subset: true })).toMatch(
      /data_batch_1 .*cut short.*or use the binary version \(cifar-10-binary\.tar\.gz\)/,
    );
    writeFileSync(file, "\x80\x02cos\nsystem\nU\x04true\x85R.", "latin1");
    expect(await failure(folder, { subset: true })).toMatch(/os\.system/);
    writeFileSync(file, "\x80\x02]q\x00.", "latin1");
    expect(await failure(folder, { subset: true })).toMatch(/holds a list of 0, not a dict/);
    writeFileSync(file, Buffer.from(original.toString("latin1").replace("\x06labels", "\x06lapels"), "latin1"));
    expect(await failure(folder, { subset: true })).toMatch(/"labels" is nothing where a list of 2 numbers is expected/);
    writeFileSync(file, Buffer.from(original.toString("latin1").replace("\x04data", "\x04gata"), "latin1"));
    expect(await failure(folder, { subset: true })).toMatch(/"data" is nothing, not an array of bytes/);
    writeFileSync(file, Buffer.from(original.toString("latin1").replace("](K\x00K\x09e", "](K\x00K\x0ae"), "latin1"));
    expect(await failure(folder, { subset: true })).toMatch(/data_batch_1: image 1 has label 10, not 0 to 9/);
  });

  test("every changed byte of a pickle's beginning gives a typed error or other values", async () => {
    const folder = copy("cifar-100-python", "mutated");
    const original = readFileSync(join(folder, "train"));
    for (let at = 0; at < 160; at++) {
      const changed = Buffer.from(original);
      changed[at]! ^= 0x41;
      writeFileSync(join(folder, "train"), changed);
      await Cifar.open(folder, { subset: true }).catch((error: unknown) => {
        if (!(error instanceof DatasetError)) throw error;
      });
    }
  });
});

(testPython ? test : test.skip)("arrays are read however Python pickles them: any protocol, either order in memory", async () => {
  const [labels, digests] = runPython<[number[], string[]]>(`
import hashlib, json, os, pickle, sys
import numpy as np
random = np.random.default_rng(1)
data = random.integers(0, 256, (4, 3072)).astype(np.uint8)
labels = [3, 0, 9, 5]
for protocol in (2, 3, 4, 5):
    for order in "CF":
        folder = os.path.join(sys.argv[1], f"pickled{protocol}{order}")
        os.makedirs(folder)
        for name in ["test_batch"]:
            with open(os.path.join(folder, name), "wb") as file:
                pickle.dump({"data": np.asarray(data, order=order), "labels": labels}, file, protocol=protocol)
        with open(os.path.join(folder, "batches.meta"), "wb") as file:
            pickle.dump({"label_names": [str(i) for i in range(10)]}, file, protocol=protocol)
images = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
print(json.dumps([labels, [hashlib.sha256(image.tobytes()).hexdigest() for image in images]]))`, [temporary]);
  for (const name of [2, 3, 4, 5].flatMap((protocol) => [`pickled${protocol}C`, `pickled${protocol}F`])) {
    const images = await Cifar.open(join(temporary, name), { split: "test", subset: true });
    expect({ name, ...listed(images) }).toEqual({ name, labels, sha256: digests });
  }
});
