import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "@jest/globals";
import { addPrefix, writeCheckpoint } from "../../lib/checkpoint/index.js";
import { createMoCo } from "../../lib/moco/index.js";
import { ResNet, VisionTransformer, type Encoder, type VisionTransformerOptions } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import { Embedder } from "../../lib/train/embedder/embedder.js";
import { FeatureExtractor, type FeatureOptions } from "../../lib/train/features.js";
import { fixturePath } from "../support/fixtures.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

const folder = temporaryFolder("embed");

const china = fixturePath("augment/files/china.jpg");
const flower = fixturePath("augment/files/flower.jpg");
const sizes: VisionTransformerOptions = { imageSize: 32, patchSize: 8, embedDim: 24, depth: 2 };

/** What an encoder in memory makes of images in one batch. */
async function direct(encoder: Encoder, images: (string | Uint8Array)[], options: FeatureOptions = {}): Promise<Float32Array[]> {
  const extractor = new FeatureExtractor(encoder, options);
  using table = await extractor.extract({ length: images.length, image: (index) => images[index]! });
  const values = table.features.data() as Float32Array;
  return images.map((_, row) => values.slice(row * extractor.dim, (row + 1) * extractor.dim));
}

/** A checkpoint of an encoder whose weights are not a training's. */
async function savedEncoder(name: string, options: VisionTransformerOptions, change: (encoder: VisionTransformer) => void = () => {}): Promise<string> {
  using encoder = new VisionTransformer({ ...options, numClasses: 0 });
  change(encoder);
  const path = join(folder, name);
  await writeCheckpoint(path, { state_dict: encoder.stateDict(), moco_v3_run: { num_heads: encoder.numHeads } });
  return path;
}

describe.each<VisionTransformerOptions>([sizes, { imageSize: 32, embedDim: 24, depth: 1, mlpRatio: 2, stem: "conv" }])(
  "a ViT's sizes are read off its checkpoint: %o", (vit) => {
    test("and paths and bytes give the base encoder's features, to the bit", async () => {
      torch.manualSeed(3);
      using moco = createMoCo({ encoder: (numClasses) => new VisionTransformer({ ...vit, numClasses }), dim: 8, mlpDim: 16 });
      const path = join(folder, "checkpoint_0000.pth.tar");
      await writeCheckpoint(path, { epoch: 1, arch: "custom", state_dict: addPrefix(moco.stateDict()) });
      await using embedder = await Embedder.load(folder); // a run's folder means its latest checkpoint
      const images = [china, new Uint8Array(readFileSync(flower)), china];
      const vectors = await embedder.embed(images);
      expect(vectors[0]).toEqual(vectors[2]);
      expect(vectors[0]).not.toEqual(vectors[1]);
      expect(vectors).toEqual(await direct(moco.baseEncoder, images));
      expect(embedder).toMatchObject({ file: path, dim: 24, layer: "class", imageSize: [32, 32], device: "cpu", isOpen: true, waiting: 0 });

      await using patches = await Embedder.load(path, { layer: "patches" });
      expect(await patches.embed(images)).toEqual(await direct(moco.baseEncoder, images, { layer: "patches" }));
      await using projector = await Embedder.load(path, { layer: "projector" });
      const projected = await projector.embed(images);
      expect(projector.dim).toBe(8);
      expect(projected).toEqual(await direct(moco.baseEncoder, images, { layer: "projector" }));
      // The projector's BatchNorm uses its running statistics: an image does not depend on its batch.
      const [alone] = await projector.embed([china]);
      projected[0]!.forEach((value, i) => expect(alone![i]).toBeCloseTo(value, 5));
    });
  },
);

test("the projector of a ResNet is read, with its BatchNorms", async () => {
  using moco = createMoCo({ encoder: (numClasses) => new ResNet({ block: "basic", layers: [1, 1, 1, 1], width: 4, numClasses }), dim: 8, mlpDim: 16 });
  torch.noGrad(() => {
    for (const [name, buffer] of moco.baseEncoder.head.namedBuffers()) if (/running/.test(name)) torch.scope(() => void buffer.add_(torch.rand(buffer.shape)));
  });
  const path = join(folder, "resnet.pth.tar");
  await writeCheckpoint(path, { epoch: 1, arch: "custom", state_dict: addPrefix(moco.stateDict()) });
  await using embedder = await Embedder.load(path, { layer: "projector", imageSize: 64 });
  expect(await embedder.embed([china, flower])).toEqual(await direct(moco.baseEncoder, [china, flower], { layer: "projector", imageSize: 64 }));
  await using pooled = await Embedder.load(path, { imageSize: 64 });
  expect(pooled).toMatchObject({ layer: "pooled", dim: 32 });
});

test("a training's checkpoint tells the number of heads, which shapes do not", async () => {
  const path = await savedEncoder("heads.pth", { imageSize: 32, patchSize: 16, embedDim: 24, depth: 1, numHeads: 3 });
  await using embedder = await Embedder.load(path);
  expect(embedder.spec.numHeads).toBe(3);
  await using given = await Embedder.load(path, { numHeads: 6 });
  expect(given.spec.numHeads).toBe(6);
  expect(await embedder.embed([china])).not.toEqual(await given.embed([china]));
});

test("a ResNet's architecture is read off its tensors; bfloat16 gives float32 vectors close by", async () => {
  using encoder = new ResNet({ block: "basic", layers: [2, 2, 2, 2], width: 8, numClasses: 10 });
  const path = join(folder, "resnet.pth");
  await writeCheckpoint(path, { state_dict: encoder.stateDict() });
  await using embedder = await Embedder.load(path, { imageSize: 64, threads: 1 });
  await using low = await Embedder.load(path, { imageSize: 64, precision: "bf16" });
  const [[vector], [rounded]] = await Promise.all([embedder.embed([china]), low.embed([china])]);
  expect(vector).toHaveLength(64);
  const scale = Math.max(...vector!);
  vector!.forEach((value, i) => expect(Math.abs(rounded![i]! - value)).toBeLessThan(0.05 * scale));
  expect(rounded).not.toEqual(vector);
});

describe("what cannot be done", () => {
  test("no images give no vectors; an unreadable one is named, and its neighbours are not harmed", async () => {
    await using embedder = await Embedder.load(await savedEncoder("plain.pth", sizes));
    expect(await embedder.embed([])).toEqual([]);
    const none = join(folder, "none.jpg");
    await expect(embedder.embed([china, none])).rejects.toMatchObject({ name: "EmbedError", image: none, index: 1 });
    await expect(embedder.embed([new Uint8Array(10)])).rejects.toThrow(/image 0 cannot be embedded/);
    const [good, bad] = await embedder.embedSettled([china, none]);
    expect(bad).toMatchObject({ status: "rejected", reason: { name: "EmbedError", index: 1 } });
    expect(good).toMatchObject({ status: "fulfilled", value: (await embedder.embed([china]))[0] });
    await expect(embedder.embed([7 as never])).rejects.toThrow(/image 0 is number; give a path/);
  });

  test("checkpoints and options that do not fit give the errors of their kind", async () => {
    const path = join(folder, "other.pth");
    using weight = torch.ones([2]);
    await writeCheckpoint(path, { state_dict: new Map([["weight", weight]]) });
    await expect(Embedder.load(path)).rejects.toMatchObject({ name: "ConvertError", message: expect.stringMatching(/neither a ViT nor a ResNet/) as unknown });
    const vit = await savedEncoder("fits.pth", sizes);
    const cases: [string, object, string, RegExp][] = [
      [join(folder, "none.pth"), {}, "CheckpointNotFoundError", /there is no checkpoint .*none\.pth/],
      [china, {}, "CheckpointError", /china\.jpg/],
      [vit, { layer: "projector" }, "FeatureError", /has no projector: .* only pre-training checkpoints/],
      [vit, { layer: "pooled" }, "FeatureError", /choose class or patches/],
      [vit, { imageSize: 64 }, "FeatureError", /64 x 64, and this ViT's position embedding is for 32 x 32/],
      [vit, { device: "cuda:7" }, "OptionError", /cuda:7/],
      [vit, { precision: "fp16", device: "cpu" }, "OptionError", /fp16 needs a GPU/],
      [vit, { batchSize: 0 }, "OptionError", /batchSize is 0/],
      [vit, { queueLimit: 1.5 }, "OptionError", /queueLimit is 1.5/],
      [vit, { numHeads: 7 }, "ConvertError", /7 attention heads/],
    ];
    for (const [file, options, name, message] of cases) {
      const error = await Embedder.load(file, options).then(() => null, (reason: unknown) => reason as Error);
      expect(error).toBeInstanceOf(Error);
      expect(error).toMatchObject({ name, message: expect.stringMatching(message) as unknown });
    }
    const { CheckpointError } = await import("../../lib/checkpoint/index.js");
    const damaged = await Embedder.load(china).catch((error: unknown) => error);
    expect(damaged).toBeInstanceOf(CheckpointError);
    expect(damaged).toMatchObject({ file: china });
  });

  test("features that are not finite are a FeatureError that names the image", async () => {
    const path = await savedEncoder("diverged.pth", sizes, (encoder) => torch.noGrad(() => void encoder.norm.parameters()[0]!.fill_(NaN)));
    await using embedder = await Embedder.load(path);
    await expect(embedder.embed([china])).rejects.toMatchObject({
      name: "FeatureError", message: expect.stringMatching(/the features of .*china\.jpg are not finite numbers: .*moco inspect/) as unknown,
    });
    expect(await embedder.embedSettled([china, join(folder, "none.jpg")])).toMatchObject([
      { status: "rejected", reason: { name: "FeatureError" } }, { status: "rejected", reason: { name: "EmbedError" } },
    ]);
  });
});

describe("many callers at once", () => {
  test("each gets its own vectors in its order, whatever they share a batch with, and bytes stay as they are", async () => {
    await using embedder = await Embedder.load(await savedEncoder("many.pth", sizes), { batchSize: 5 });
    const buffer = Buffer.concat([Buffer.alloc(100), readFileSync(flower), Buffer.alloc(100)]);
    const bytes = buffer.subarray(100, buffer.length - 100); // a part of a larger buffer
    const before = Buffer.from(buffer);
    const [[a], [b]] = [await embedder.embed([china]), await embedder.embed([flower])];
    const close = (found: Float32Array, expected: Float32Array): void => found.forEach((value, i) => expect(Math.abs(value - expected[i]!)).toBeLessThan(1e-5));
    await Promise.all(Array.from({ length: 40 }, async (_, i) => {
      const images = [china, bytes, ...(i % 3 === 0 ? [bytes] : [])];
      if (i % 7 === 0) {
        await expect(embedder.embed([...images, `${i}.jpg`])).rejects.toThrow(`${i}.jpg cannot be embedded`);
        return;
      }
      const vectors = await embedder.embed(images);
      expect(vectors).toHaveLength(images.length);
      vectors.forEach((vector, place) => close(vector, place === 0 ? a! : b!));
    }));
    expect(buffer.equals(before)).toBe(true);
    expect(embedder.waiting).toBe(0);
  });

  test("a full queue refuses, says how to raise it, and a call may wait for its turn", async () => {
    await using embedder = await Embedder.load(await savedEncoder("full.pth", sizes), { batchSize: 2, queueLimit: 6, maxWaitMs: 0 });
    const first = embedder.embed(Array<string>(6).fill(china)); // four of them go to the thread at once
    const second = embedder.embed(Array<string>(4).fill(china));
    await expect(embedder.embed([china])).rejects.toMatchObject({
      name: "EmbedQueueFullError", waiting: 6, queueLimit: 6, message: expect.stringMatching(/raise queueLimit, .*whenFull: "wait"/) as unknown,
    });
    await expect(embedder.embed(Array<string>(7).fill(china))).rejects.toThrow(/7 more were given/);
    const long = embedder.embed(Array<string>(50).fill(flower), { whenFull: "wait" });
    let longDone = false;
    void long.then(() => (longDone = true));
    await Promise.all([first, second]);
    const [small] = await embedder.embed([flower]); // does not wait for the long call to end
    expect(longDone).toBe(false);
    const vectors = await long;
    expect(vectors).toHaveLength(50);
    vectors[49]!.forEach((value, i) => expect(Math.abs(value - small![i]!)).toBeLessThan(1e-5));
  });

  test("a call can be taken back, before and while it waits", async () => {
    await using embedder = await Embedder.load(await savedEncoder("abort.pth", sizes), { batchSize: 2, maxWaitMs: 0 });
    await expect(embedder.embed([china], { signal: AbortSignal.abort(new Error("too late")) })).rejects.toThrow("too late");
    const controller = new AbortController();
    const taken = embedder.embed(Array<string>(40).fill(china), { signal: controller.signal });
    const kept = embedder.embed([china, flower]);
    controller.abort();
    await expect(taken).rejects.toMatchObject({ name: "AbortError" });
    expect(await kept).toHaveLength(2);
    expect(embedder.waiting).toBe(0);
  });

  test("the event loop turns while the network computes", async () => {
    await using embedder = await Embedder.load(await savedEncoder("loop.pth", { imageSize: 224, patchSize: 16, embedDim: 192, depth: 6 }));
    let turns = 0;
    const turn = (): void => void (turns++, (timer = setImmediate(turn)));
    let timer = setImmediate(turn);
    await embedder.embed(Array<string>(16).fill(china)); // one batch, some hundred milliseconds in the network
    clearImmediate(timer);
    expect(turns).toBeGreaterThan(20);
  });
});

describe("the end", () => {
  test("dispose rejects what waits and later calls, at any time, twice too", async () => {
    const embedder = await Embedder.load(await savedEncoder("end.pth", sizes), { batchSize: 1 });
    const waiting = Array.from({ length: 20 }, () => embedder.embed([china]));
    const ended = Promise.all([embedder.dispose(), embedder.dispose()]);
    for (const each of waiting) await expect(each).rejects.toMatchObject({ name: "EmbedderClosedError" });
    await ended;
    await expect(embedder.embed([china])).rejects.toThrow(/has been disposed of; load another/);
    expect(embedder.isOpen).toBe(false);
  });

  const run = promisify(execFile);
  const library = new URL("../../lib/train/embedder/embedder.js", import.meta.url).href;
  const program = (code: string): Promise<{ stdout: string }> => {
    const file = join(folder, "program.mjs");
    writeFileSync(file, `import { Embedder } from "${library}";\n${code}`);
    return run(process.execPath, [file], { timeout: 50_000 });
  };

  test("a thread that ends rejects what waits, and nothing hangs", async () => {
    const path = await savedEncoder("crash.pth", sizes);
    // The thread is ended from outside as soon as it has something to do.
    const { stdout } = await program(`
      import { Worker } from "node:worker_threads";
      const post = Worker.prototype.postMessage;
      const embedder = await Embedder.load(${JSON.stringify(path)});
      Worker.prototype.postMessage = function (message, ...rest) { void this.terminate(); return post.call(this, message, ...rest); };
      const calls = await Promise.allSettled([embedder.embed([${JSON.stringify(china)}]), embedder.embed([${JSON.stringify(china)}])]);
      console.log(calls.map(({ reason }) => reason.name + ": " + reason.message).join("\\n"));
      await embedder.embed(["x"]).catch(({ name }) => console.log(name, embedder.isOpen));
    `);
    const lost = "EmbedderClosedError: the embedding thread ended with code 1; load the embedder again\n";
    expect(stdout).toBe(`${lost}${lost}EmbedderClosedError false\n`);
  });

  test("the process ends by itself, disposed of or not", async () => {
    const path = JSON.stringify(await savedEncoder("exit.pth", sizes));
    const images = JSON.stringify([china]);
    for (const ending of ["", "await embedder.dispose();", "void embedder.embed([]); embedder[Symbol.dispose]();"]) {
      const { stdout } = await program(`const embedder = await Embedder.load(${path}); console.log((await embedder.embed(${images}))[0].length); ${ending}`);
      expect(stdout).toBe("24\n");
    }
  });
});
