import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { convertCheckpoint, readEncoderFile } from "../../../lib/checkpoint/index.js";
import { diskFiles, type FileLayer } from "../../../lib/checkpoint/files/durableFile.js";
import { fixturePath } from "../../support/fixtures.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";

const source = fixturePath("checkpoints/vit_stopgrad_adamw_zip.pth.tar");
const root = temporaryFolder("model-folder");
expectNoTensorsLeft();

/** The disk, whose `failing`th operation among the counted ones fails. */
function failingAt(failing: number): { files: FileLayer; done: () => number } {
  let count = 0;
  const counted = async <T>(operation: () => Promise<T>): Promise<T> => {
    if (count++ === failing) throw Object.assign(new Error("EIO: i/o error"), { code: "EIO" });
    return operation();
  };
  const files: FileLayer = {
    ...diskFiles,
    create: (path) => counted(async () => {
      const file = await diskFiles.create(path);
      return {
        write: (bytes) => counted(() => file.write(bytes)), sync: () => counted(() => file.sync()), close: () => file.close(),
      };
    }),
    rename: (from, to) => counted(() => diskFiles.rename(from, to)),
  };
  return { files, done: () => count };
}

test("whatever operation fails, the folder is the old one or the new one, whole, and nothing else is left", async () => {
  const output = join(root, "model");
  await convertCheckpoint(source, output, { to: "huggingface", numHeads: 2 });
  const headsNow = async (): Promise<unknown> =>
    (JSON.parse(await readFile(join(output, "config.json"), "utf8")) as Record<string, unknown>).num_attention_heads;

  const all = failingAt(-1);
  await convertCheckpoint(source, output, { to: "huggingface", numHeads: 3, force: true, files: all.files });
  expect(await headsNow()).toBe(3);
  expect(all.done()).toBeGreaterThan(10);

  for (let failing = 0; failing < all.done(); failing++) {
    const { files } = failingAt(failing);
    await expect(convertCheckpoint(source, output, { to: "huggingface", numHeads: 4, force: true, files })).rejects.toThrow(/EIO/);
    expect([failing, await headsNow()]).toEqual([failing, 3]);
    expect((await readdir(output)).sort()).toEqual(["config.json", "model.safetensors", "preprocessor_config.json"]);
    expect(await readdir(root)).toEqual(["model"]);
    using read = await readEncoderFile(output);
    expect(read.spec.numHeads).toBe(3);
  }
}, 60_000);

test("a new folder does not appear when writing fails", async () => {
  for (const failing of [0, 3, 6]) {
    const { files } = failingAt(failing);
    await expect(convertCheckpoint(source, join(root, "new"), { to: "huggingface", files })).rejects.toThrow(/EIO/);
    expect(await readdir(root)).toEqual(["model"]);
  }
});
