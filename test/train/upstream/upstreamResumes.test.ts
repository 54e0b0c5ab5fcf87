/** Checkpoints of ours in upstream's own programs, and the other way round; needs MOCO_TEST_PYTHON and MOCO_TEST_UPSTREAM. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { disposeTensors, OrderedDict, readCheckpoint, writeCheckpoint } from "../../../lib/checkpoint/index.js";
import { SGD } from "../../../lib/optim/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { SavedTraining } from "../../../lib/train/runs/trainingState.js";
import { maxAbsolute, numbers } from "../../support/digest.js";
import { runPython, testUpstream } from "../../support/python.js";
import { archName, buildTrainee, disposeTrainee, pretrainHere, save, trainEpochs, valuesOf, type TinyTraining } from "./tinyTraining.js";
import { canRunUpstream, runUpstream } from "./upstream.js";

const shared = { "moco-m": 0.99, "moco-dim": 8, "moco-mlp-dim": 16, epochs: 4, "warmup-epochs": 1, "batch-size": 4 };
const vit: TinyTraining = {
  arch: { vit_tiny: { img_size: 16, patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2, stop_grad_conv1: true } },
  batches: { seed: 11, size: 8, image: 16, perEpoch: 2, classes: 4 },
  options: { ...shared, optimizer: "adamw", lr: 0.064, wd: 0.1, "moco-t": 0.2 },
  scaler: false,
};
const resnet: TinyTraining = {
  arch: { resnet_tiny: { layers: [1, 1, 1, 1], width: 4 } },
  batches: { seed: 12, size: 8, image: 32, perEpoch: 2, classes: 4 },
  options: { ...shared, optimizer: "lars", lr: 19.2, wd: 1e-6, "moco-t": 1 },
  scaler: false,
};
const trainings: [string, TinyTraining][] = [["ViT with AdamW", vit], ["ResNet with LARS", resnet]];

interface UpstreamCheckpoint {
  epoch: number;
  state_dict: Map<string, Tensor>;
  optimizer: { state: Map<number, Record<string, Tensor>> };
}

/** What `valuesOf` gives, of a file. */
async function valuesIn(path: string): Promise<Map<string, Float64Array>> {
  const checkpoint = await readCheckpoint<UpstreamCheckpoint>(path);
  const values = new Map([...checkpoint.state_dict].map(([key, tensor]) => [`state_dict.${key.replace(/^module\./, "")}`, numbers(tensor)]));
  for (const [index, tensors] of [...checkpoint.optimizer.state].sort(([a], [b]) => a - b)) {
    for (const [key, tensor] of Object.entries(tensors)) values.set(`optimizer.${index}.${key}`, numbers(tensor));
  }
  disposeTensors(checkpoint);
  return values;
}

/** A linear probe's checkpoint as far as its optimiser goes: a classifier of SGD, two steps old. */
async function writeProbe(path: string): Promise<void> {
  const [weight, bias] = [torch.ones([4, 16]).requiresGrad_(), torch.ones([4]).requiresGrad_()];
  const optimizer = new SGD([weight, bias], { lr: 1, momentum: 0.9 });
  for (let step = 0; step < 2; step++) {
    torch.scope(() => weight.sum().add(bias.sum()).backward());
    optimizer.step();
    optimizer.zeroGrad();
  }
  await writeCheckpoint(path, { epoch: 1, state_dict: new OrderedDict([["head.weight", weight], ["head.bias", bias]]), optimizer: optimizer.stateDict() });
  optimizer.dispose();
  [weight, bias].forEach((tensor) => tensor.dispose());
}

/** Loads files into new optimisers of PyTorch and upstream and lists what differs from what these save themselves. */
const CHECK_FIELDS = `
import json, sys, torch
sys.path.insert(0, sys.argv[1])
from moco.optimizer import LARS
faults = []
def check(path, make):
    c = torch.load(path, weights_only=True, mmap=True)
    assert c.keys() == torch.load(path, weights_only=True).keys()
    saved = c["optimizer"]
    shapes = [v.shape for k, v in c["state_dict"].items() if not k.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    params = [torch.nn.Parameter(torch.zeros(s)) for s in (shapes if len(shapes) == len(saved["param_groups"][0]["params"]) else shapes[-2:])]
    optimizer = make(params)
    fresh = optimizer.state_dict()["param_groups"][0]
    group = saved["param_groups"][0]
    if list(group) != list(fresh): faults.append([path, "keys", list(group), list(fresh)])
    for key, value in fresh.items():
        if type(group[key]) is not type(value): faults.append([path, key, repr(group[key]), repr(value)])
        if isinstance(value, tuple) and any(type(a) is not type(b) for a, b in zip(group[key], value)): faults.append([path, key])
    optimizer.load_state_dict(saved)
    after = optimizer.state_dict()
    if after["param_groups"] != saved["param_groups"]: faults.append([path, "param_groups"])
    if after["state"].keys() != saved["state"].keys(): faults.append([path, "indices"])
    for index, values in saved["state"].items():
        for key, value in values.items():
            kept = after["state"][index][key]
            if not torch.equal(kept, value) or kept.dtype != value.dtype: faults.append([path, index, key])
            if key == "step" and (value.ndim != 0 or value.dtype != torch.float32): faults.append([path, index, "step", str(value)])
    for p in params: p.grad = torch.ones_like(p)
    optimizer.step()
    scaler = c.get("scaler")
    if scaler is not None:
        fresh = torch.amp.GradScaler("cpu")
        types = {k: type(v) for k, v in fresh.state_dict().items()}
        if {k: type(v) for k, v in scaler.items()} != types: faults.append([path, "scaler", repr(scaler)])
        fresh.load_state_dict(scaler)
check(sys.argv[2], lambda p: torch.optim.AdamW(p, 0.5, weight_decay=0.5))
check(sys.argv[3], lambda p: LARS(p, 0.5, weight_decay=0.5))
check(sys.argv[4], lambda p: torch.optim.SGD(p, 0.5, momentum=0.5, weight_decay=0.5, dampening=0.5))
print(json.dumps(faults))
`;

/** Lists what differs between two checkpoints of upstream, to the bit and with types; the keys that only the second has are passed over. */
const COMPARE = `
import json, sys, torch
faults = []
def compare(a, b, where):
    if type(a) is not type(b): faults.append([where, str(type(a)), str(type(b))])
    elif isinstance(a, torch.Tensor):
        if a.dtype != b.dtype or not torch.equal(a, b): faults.append([where, "differs"])
    elif isinstance(a, dict):
        if list(a) != list(b)[:len(a)] or (where and len(a) != len(b)): faults.append([where, list(a), list(b)])
        for key in a: compare(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        if len(a) != len(b): faults.append([where, len(a), len(b)])
        for i, (x, y) in enumerate(zip(a, b)): compare(x, y, f"{where}.{i}")
    elif a != b: faults.append([where, repr(a), repr(b)])
compare(torch.load(sys.argv[1]), torch.load(sys.argv[2]), "")
print(json.dumps(faults))
`;

(canRunUpstream ? describe : describe.skip)("with upstream's own code", () => {
  const live = torch.memory().tensors;
  const ours = new Map<TinyTraining, string>();
  let folder: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "moco-upstream-"));
    for (const [, training] of trainings) ours.set(training, await pretrainHere(join(folder, archName(training)), training));
  }, 60_000);
  afterAll(() => {
    rmSync(folder, { recursive: true });
    expect(torch.memory().tensors).toBe(live);
  });

  // Upstream's losses are scaled in the first case, as on a GPU: that our run did without must not keep it from resuming.
  test.each(trainings)("main_moco.py --resume goes on with our run as we do: %s", async (_, training) => {
    const path = ours.get(training)!;
    const upstream = runUpstream(folder, training, { dtype: "float64", scaler: training === vit, args: ["--resume", path] });
    const trainee = buildTrainee(training, "float64");
    using saved = await SavedTraining.read(path);
    expect(saved.position).toEqual({ epoch: 2, step: 0 });
    expect(saved.restore(trainee)).toEqual([]);
    const losses = trainEpochs(trainee, training, 2, 4, "float64");
    expect(upstream.losses).toHaveLength(4);
    expect(maxAbsolute(losses, upstream.losses)).toBeLessThan(1e-9);
    const [found, expected] = [valuesOf(trainee), await valuesIn(join(upstream.folder, "checkpoint_0003.pth.tar"))];
    expect([...found.keys()]).toEqual([...expected.keys()]);
    for (const [key, values] of expected) expect([key, maxAbsolute(found.get(key)!, values) < 1e-8]).toEqual([key, true]);
    disposeTrainee(trainee);
  }, 120_000);

  test.each(trainings)("main_lincls.py --pretrained trains a classifier on our encoder, and we know its file: %s", async (_, training) => {
    const { folder: at } = runUpstream(folder, training, {
      program: "main_lincls", dtype: "float32", args: ["--pretrained", ours.get(training)!, "--epochs", "1", "-b", "8", "--lr", "1"],
    });
    const path = join(at, "checkpoint.pth.tar");
    await expect(SavedTraining.read(path)).rejects.toThrow(/is a linear probe.*--init/);
    const probe = await readCheckpoint<UpstreamCheckpoint & { optimizer: object }>(path);
    const classifier = [...probe.state_dict.values()].slice(-2).map((tensor) => torch.emptyLike(tensor));
    const optimizer = new SGD(classifier);
    optimizer.loadStateDict(probe.optimizer);
    expect(optimizer.paramGroups[0]).toMatchObject({ momentum: 0.9, weightDecay: 0, nesterov: false });
    expect([...optimizer.stateDict().state.values()].map((state) => [...state.keys()])).toEqual([["momentum_buffer"], ["momentum_buffer"]]);
    optimizer.dispose();
    classifier.forEach((tensor) => tensor.dispose());
    disposeTensors(probe);
  }, 120_000);

  test("torch.optim and upstream's LARS take every field of our optimisers' states", async () => {
    const path = join(folder, "probe.pth.tar");
    await writeProbe(path);
    expect(runPython(CHECK_FIELDS, [testUpstream!, ours.get(vit)!, ours.get(resnet)!, path])).toEqual([]);
  });

  test("a checkpoint of upstream, resumed and saved here, is the same to upstream", async () => {
    const scaled = { ...vit, scaler: true };
    const first = runUpstream(folder, { ...scaled, options: { ...vit.options, epochs: 2 } }, { dtype: "float32" });
    const [theirs, circled] = [join(first.folder, "checkpoint_0001.pth.tar"), join(folder, "circled.pth.tar")];
    const trainee = buildTrainee(scaled, "float32");
    using saved = await SavedTraining.read(theirs);
    expect(saved.restore(trainee)).toEqual([expect.stringContaining("random numbers")]);
    await save(circled, trainee, saved.position!, scaled);
    disposeTrainee(trainee);
    expect(runPython(COMPARE, [theirs, circled])).toEqual([]);
    const [one, other] = [theirs, circled].map((path) => runUpstream(folder, scaled, { dtype: "float32", args: ["--resume", path] }));
    expect(other!.losses).toEqual(one!.losses);
    expect(runPython(COMPARE, [one, other].map((run) => join(run!.folder, "checkpoint_0003.pth.tar")))).toEqual([]);
  }, 120_000);
});
