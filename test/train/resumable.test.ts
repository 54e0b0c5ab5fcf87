/** Which files a training goes on from, with what, and what is said about the others. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { disposeTensors, OrderedDict, readCheckpoint, stripPrefix, writeCheckpoint } from "../../lib/checkpoint/index.js";
import { ResNet, VisionTransformer } from "../../lib/models/index.js";
import { OptimizerStateError } from "../../lib/optim/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { ResumeError, SavedTraining, type RunFacts, type Trainee } from "../../lib/train/runs/trainingState.js";
import { fixturePath } from "../support/fixtures.js";
import { runTiny } from "./tinyRun.js";
import { buildTrainee, disposeTrainee, type TinyTraining } from "./upstream/tinyTraining.js";

interface Upstream {
  epoch: number;
  arch: string;
  state_dict: OrderedDict<string, Tensor>;
  optimizer: object;
  scaler: object;
}

/** The training that made vitmini_adamw_zip.pth.tar. */
const mini: TinyTraining = {
  arch: { vit_tiny: { img_size: 16, patch_size: 8, embed_dim: 16, depth: 1, num_heads: 2 } },
  batches: { seed: 0, size: 8, image: 16, perEpoch: 2 },
  options: {
    optimizer: "adamw", lr: 0.032, wd: 0.1, "moco-t": 0.2, "moco-m": 0.99, "moco-dim": 8, "moco-mlp-dim": 16, epochs: 3, "warmup-epochs": 1,
    "batch-size": 8,
  },
  scaler: true,
};
const encoder = (numClasses: number): VisionTransformer =>
  new VisionTransformer({ imageSize: 16, patchSize: 8, embedDim: 16, depth: 1, numHeads: 2, numClasses });
const factsOf = (arch: string): RunFacts => ({ arch, seed: 1, images: 8, stepsPerEpoch: 2, batchSize: 8, recipe: {} });

const live = torch.memory().tensors;
let folder: string;
let whole: Upstream;
let counter = 0;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "moco-resumable-"));
  whole = await readCheckpoint<Upstream & Record<string, unknown>>(fixturePath("checkpoints/vitmini_adamw_zip.pth.tar"), { tagFloats: true });
});
afterAll(() => {
  rmSync(folder, { recursive: true });
  disposeTensors(whole);
  expect(torch.memory().tensors).toBe(live);
});

async function write(value: unknown, format: "zip" | "safetensors" = "zip"): Promise<string> {
  const path = join(folder, `${counter++}.pth`);
  await writeCheckpoint(path, value, { format });
  return path;
}

/** What restoring a file says, in the words that matter, and how it left the training. */
async function restored<T>(path: string, look: (saved: SavedTraining, trainee: Trainee) => T, training = mini): Promise<{ afresh: string[]; seen: T }> {
  const trainee = buildTrainee(training, "float32");
  try {
    using saved = await SavedTraining.read(path);
    const afresh = saved.restore(trainee);
    return { afresh, seen: look(saved, trainee) };
  } finally {
    disposeTrainee(trainee);
  }
}

const OPTIMISER = "the optimiser, without the moments of earlier steps (the file has no optimiser state)";
const SCALE = "the loss scale, at 65536 (the file has none)";
const EPOCHS = "the epochs, and with them the schedules (the file has no epoch; --start-epoch gives one)";
const RANDOM = "the random numbers, so the order of images and their crops follow this run's seed (the file keeps none)";

describe("what is missing begins anew, and is told", () => {
  const { epoch, arch } = { epoch: 2, arch: "vit_small" };
  test.each<[string, () => unknown, string[], number | null]>([
    ["a whole checkpoint", () => whole, [RANDOM], epoch],
    ["without optimiser", () => ({ epoch, arch, state_dict: whole.state_dict, scaler: whole.scaler }), [OPTIMISER, RANDOM], epoch],
    ["without scaler", () => ({ ...whole, scaler: undefined }), [SCALE, RANDOM], epoch],
    ["of a run that did not scale", () => ({ ...whole, scaler: {} }), [SCALE, RANDOM], epoch],
    ["network and epoch", () => ({ epoch, state_dict: whole.state_dict }), [OPTIMISER, SCALE, RANDOM], epoch],
    ["network alone, named", () => ({ state_dict: whole.state_dict }), [OPTIMISER, SCALE, EPOCHS, RANDOM], null],
    ["network alone, bare", () => whole.state_dict, [OPTIMISER, SCALE, EPOCHS, RANDOM], null],
    ["network alone, without module.", () => stripPrefix(whole.state_dict), [OPTIMISER, SCALE, EPOCHS, RANDOM], null],
    ["without module.", () => ({ ...whole, state_dict: stripPrefix(whole.state_dict) }), [RANDOM], epoch],
  ])("%s", async (_, value, messages, saved) => {
    const given = value() as Record<string, unknown>;
    const path = await write(given instanceof Map ? given : Object.fromEntries(Object.entries(given).filter(([, each]) => each !== undefined)));
    const { afresh, seen } = await restored(path, ({ position }, { moco, optimizer }) => ({
      position, state: optimizer.stateDict().state.size,
      equal: [...moco.stateDict()].every(([key, tensor]) => torch.scope(() => torch.equal(tensor, whole.state_dict.get(`module.${key}`)!))),
    }));
    expect(afresh).toEqual(messages);
    expect(seen).toEqual({
      position: saved === null ? null : { epoch: saved, step: 0 }, equal: true, state: messages.includes(OPTIMISER) ? 0 : 28,
    });
  });

  test("a safetensors file of the network", async () => {
    const path = await write(whole.state_dict, "safetensors");
    expect((await restored(path, () => null)).afresh).toEqual([OPTIMISER, SCALE, EPOCHS, RANDOM]);
  });

  test("the scaler goes on where both runs scale, and is left out where this one does not", async () => {
    const path = await write({ ...whole, scaler: { scale: 512, growth_factor: 2, backoff_factor: 0.5, growth_interval: 2000, _growth_tracker: 7 } });
    const scale = (_: SavedTraining, { scaler }: Trainee): unknown => [scaler.getScale(), scaler.enabled && Number(scaler.stateDict()._growth_tracker)];
    expect(await restored(path, scale)).toEqual({ afresh: [RANDOM], seen: [512, 7] });
    expect(await restored(path, scale, { ...mini, scaler: false })).toEqual({ afresh: [RANDOM], seen: [1, false] });
  });

  test("our own checkpoint of a run without scaling, gone on with in float16, begins with a new loss scale", async () => {
    const out = join(folder, "run");
    await runTiny({ out, epochs: 1 });
    const training = { ...mini, arch: { vit_tiny: { img_size: 16, patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2, stop_grad_conv1: true } } };
    expect((await restored(join(out, "checkpoint_0000.pth.tar"), () => null, training)).afresh).toEqual([SCALE]);
    expect((await restored(join(out, "checkpoint_0000.pth.tar"), () => null, { ...training, scaler: false })).afresh).toEqual([]);
  });

  test("pretrain passes it on as warnings, and begins with the epoch it is given", async () => {
    const resume = await write({ state_dict: whole.state_dict });
    const warnings: string[] = [];
    const { steps } = await runTiny({ encoder, arch: "custom", resume, startEpoch: 1, epochs: 2, stopAfter: 1 }, {
      onWarning: (message) => void warnings.push(message),
    });
    expect(warnings).toEqual([OPTIMISER, EPOCHS, RANDOM].map((each) => `begins anew: ${each}`));
    expect(steps[0]).toMatchObject({ epoch: 1, stepInEpoch: 0 });
  });
});

describe("files that no training goes on from are refused with what they are and what they are good for", () => {
  const part = (name: string): OrderedDict<string, Tensor> => {
    return new OrderedDict([...whole.state_dict].filter(([key]) => key.startsWith(`module.${name}`)));
  };
  const init = (path: string): string => `begin a new run with its encoder: --init ${path}`;

  async function refused(path: string, ...parts: string[]): Promise<void> {
    const error = await SavedTraining.read(path).then(() => null, (reason: unknown) => reason);
    expect(error).toBeInstanceOf(ResumeError);
    for (const each of [path, ...parts]) expect((error as Error).message).toContain(each);
  }

  test("a linear probe", async () => {
    for (const name of ["lincls_vit_zip", "lincls_vit_legacy"]) {
      const path = fixturePath(`checkpoints/${name}.pth.tar`);
      await refused(path, "is a linear probe", init(path));
    }
  });

  test("an encoder in another program's layout", async () => {
    const deit = fixturePath("convert/deit_vit.pth");
    await refused(deit, "holds an encoder alone (in DeiT's layout)", init(deit));
    const vit = new VisionTransformer({ imageSize: 16, patchSize: 8, embedDim: 16, depth: 1, numHeads: 2, numClasses: 10 });
    const resnet = new ResNet({ block: "basic", layers: [1, 1, 1, 1], width: 4, numClasses: 10 });
    try {
      const torchvision = await write(new OrderedDict(resnet.stateDict()));
      await refused(torchvision, "holds an encoder alone (in torchvision's layout)", init(torchvision));
      const bare = await write({ state_dict: new OrderedDict(vit.stateDict()) });
      await refused(bare, "holds an encoder alone (", init(bare));
      const converted = await write({
        arch: "custom", state_dict: new OrderedDict(vit.stateDict()), encoder: { format: 1, num_heads: 2, image_size: [16, 16], patch_size: 8 },
      });
      await refused(converted, "holds an encoder alone (a file of moco convert)", init(converted));
      // Training's keys around it do not make a pre-training of an encoder.
      const dressed = await write({ ...whole, state_dict: new OrderedDict(vit.stateDict()) });
      await refused(dressed, "holds an encoder alone (", init(dressed));
    } finally {
      vit.dispose();
      resnet.dispose();
    }
  });

  test("a pre-training of which parts are missing", async () => {
    const base = await write({ ...whole, state_dict: part("base_encoder") });
    await refused(base, 'without the momentum encoder and the predictor (no key begins with "momentum_encoder.", "predictor.")', init(base));
    const momentum = await write({ state_dict: new OrderedDict([...part("base_encoder"), ...part("predictor")]) });
    await refused(momentum, "without the momentum encoder (", init(momentum));
  });

  test("other things", async () => {
    const linear = torch.ones([2, 2]);
    await refused(await write({ epoch: 1, optimizer: {}, state_dict: new OrderedDict([["weight", linear]]) }), "some other network", "no training can go on");
    await refused(await write({ epoch: 1 }), "holds no network", "no training can go on");
    await refused(await write([1, 2]), "holds no network");
    await refused(fixturePath("checkpoints/odd_zip.pth.tar"), "no training can go on");
    linear.dispose();
  });

  test.each([[-1], [1.5], ["two"]])("a pre-training with the epoch %p", async (epoch) => {
    await refused(await write({ ...whole, epoch }), `has the epoch ${epoch}, which is no whole number from 0`);
  });
});

describe("our own record of the run", () => {
  const facts = factsOf("vit_small");
  const record = { format: 1, epoch: 1, step: 1, facts, bad_images: [3], num_heads: 2 };

  test.each<[string, object | null, RegExp]>([
    ["of another format", { format: 2 }, /written by another version of this program \(format 2, known is 1\)/],
    ["nothing", null, /damaged record.*moco_v3_run\.format, moco_v3_run\.epoch/],
    ["a step below 0", { step: -1 }, /damaged record of its run \(moco_v3_run\.step\).*give another checkpoint/],
    ["a list of names", { bad_images: ["a.jpg"] }, /\(moco_v3_run\.bad_images\)/],
    ["no random state", { rng_state: null }, /\(moco_v3_run\.rng_state\)/],
    ["no seed", { facts: { ...facts, seed: null } }, /\(moco_v3_run\.facts\.seed\)/],
  ])("damaged: %s", async (_, change, message) => {
    const random = torch.getRngState();
    const path = await write({ ...whole, moco_v3_run: change && { ...record, rng_state: random, ...change } });
    random.dispose();
    const reading = SavedTraining.read(path);
    await expect(reading).rejects.toThrow(ResumeError);
    await expect(reading).rejects.toThrow(message);
  });

  test("tells the exact place, in the middle of an epoch too", async () => {
    const random = torch.getRngState();
    using saved = await SavedTraining.read(await write({ ...whole, moco_v3_run: { ...record, rng_state: random } }));
    random.dispose();
    expect([saved.position, saved.facts, saved.knownBad(8), saved.knownBad(9)]).toEqual([{ epoch: 1, step: 1 }, { ...facts }, [3], undefined]);
    expect(() => saved.compare({ ...facts, images: 9 })).toThrow(/from the middle of an epoch.*images is 9 and was 8/);
  });
});

describe("what does not fit this run", () => {
  test("another architecture: by the file's word, or by its shapes", async () => {
    using named = await SavedTraining.read(await write(whole));
    expect(() => named.compare(factsOf("vit_base"))).toThrow(/is of vit_small, and this run trains vit_base; give --arch vit_small/);
    expect(named.compare(factsOf("vit_small"))).toEqual([]);
    expect(named.compare(factsOf("custom"))).toEqual([]);
    using custom = await SavedTraining.read(await write({ ...whole, arch: "custom" }));
    expect(custom.compare(factsOf("vit_small"))).toEqual([]);

    // resnet18 by its shapes: stem and depth are those of the real one.
    const resnet = new ResNet({ block: "basic", layers: [2, 2, 2, 2], numClasses: 0 });
    const keys = (["base_encoder", "momentum_encoder"] as const).flatMap((each) =>
      [...resnet.stateDict()].map(([key, tensor]) => [`${each}.${key}`, tensor] as [string, Tensor]));
    const predictor: [string, Tensor] = ["predictor.0.weight", resnet.stateDict().get("conv1.weight")!];
    using bare = await SavedTraining.read(await write(new OrderedDict([...keys, predictor])));
    resnet.dispose();
    expect(bare.arch).toBe("resnet18");
    expect(() => bare.compare(factsOf("resnet50"))).toThrow(/is of resnet18, and this run trains resnet50/);
  });

  test("options that the saved optimiser keeps, upstream's too", async () => {
    using saved = await SavedTraining.read(await write(whole));
    const compare = (recipe: object): string[] => saved.compare({ ...factsOf("vit_small"), recipe: { ...recipe } });
    expect(compare({ weightDecay: 0.1, betas: [0.9, 0.999], momentum: 0.5 })).toEqual([]);
    expect(compare({ weightDecay: 0.3, betas: [0.9, 0.95], momentum: 0.5 })).toEqual([
      "weightDecay is 0.3 and was 0.1, which the saved optimiser keeps",
      "betas is [0.9,0.95] and was [0.9,0.999], which the saved optimiser keeps",
    ]);
  });

  test("another optimiser", async () => {
    const options = { ...mini.options, optimizer: "lars" as const };
    const load = restored(await write(whole), () => null, { ...mini, options });
    await expect(load).rejects.toThrow(OptimizerStateError);
    await expect(load).rejects.toThrow(/is of AdamW .*--optimizer adamw/);
  });

  test("other sizes under the same name", async () => {
    const wide = { ...mini, arch: { vit_tiny: { img_size: 16, patch_size: 8, embed_dim: 32, depth: 1, num_heads: 2 } } };
    await expect(restored(await write(whole), () => null, wide)).rejects.toThrow(/does not fit MoCo.*base_encoder\.cls_token is \[1,1,32\] in the model/s);
  });
});
