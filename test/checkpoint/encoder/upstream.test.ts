/** Upstream's own programs on what is written here, where a Python and a checkout of upstream are given. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import {
  addPrefix, convertCheckpoint, disposeTensors, readCheckpoint, recogniseCheckpoint, writeCheckpoint,
} from "../../../lib/checkpoint/index.js";
import * as torch from "../../../lib/torch/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { testPython, testUpstream } from "../../support/python.js";
import { archName, buildTrainee, disposeTrainee, type Arch, type TinyTraining } from "../../train/upstream/tinyTraining.js";
import { canRunUpstream, runUpstream } from "../../train/upstream/upstream.js";
import { bitsOf } from "./bits.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";

const training = (arch: Arch): TinyTraining => ({
  arch, scaler: false,
  batches: { seed: 1, size: 8, image: 32, perEpoch: 2, classes: 4 },
  options: {
    "optimizer": "adamw", "lr": 0.001, "wd": 0.1, "moco-t": 0.2, "moco-m": 0.99, "moco-dim": 8, "moco-mlp-dim": 16, "epochs": 1,
    "warmup-epochs": 0, "batch-size": 8,
  },
});

const trainings: [string, TinyTraining][] = [
  ["ViT", training({ vit_tiny: { img_size: 32, patch_size: 8, embed_dim: 24, depth: 2, num_heads: 3 } })],
  ["ResNet", training({ resnet_tiny: { layers: [1, 1, 1, 1], width: 8 } })],
];

const folder = temporaryFolder("convert-upstream");
expectNoTensorsLeft();

(canRunUpstream ? describe : describe.skip).each(trainings)("%s", (name, tiny) => {
  const pretrained = (): string => join(folder, `${name}.pth.tar`);

  beforeAll(async () => {
    const trainee = buildTrainee(tiny, "float32");
    await writeCheckpoint(pretrained(), { epoch: 7, arch: archName(tiny), state_dict: addPrefix(trainee.moco.stateDict()) });
    disposeTrainee(trainee);
  });

  test("convert_to_deit.py gives what --to deit gives", async () => {
    const [theirs, ours] = [join(folder, `${name}.theirs.pth`), join(folder, `${name}.ours.pth`)];
    const words = [join(testUpstream!, "convert_to_deit.py"), "--input", pretrained(), "--output", theirs];
    execFileSync(testPython!, words, { stdio: ["ignore", "ignore", "inherit"] });
    await convertCheckpoint(pretrained(), ours, { to: "deit" });
    const [a, b] = await Promise.all([theirs, ours].map((path) => readCheckpoint<Record<string, Map<string, Tensor>>>(path)));
    expect(Object.keys(b!)).toEqual(Object.keys(a!));
    expect(bitsOf(b!.model!)).toEqual(bitsOf(a!.model!));
    disposeTensors([a, b]);
  }, 120_000);

  test("main_lincls.py --pretrained takes --to moco-v3, and leaves the encoder as it is", async () => {
    const encoder = join(folder, `${name}.encoder.pth.tar`);
    await convertCheckpoint(pretrained(), encoder, { to: "moco-v3" });
    const { folder: at } = runUpstream(folder, tiny, {
      program: "main_lincls", dtype: "float32", args: ["--pretrained", encoder, "--epochs", "1", "-b", "8", "--lr", "1"],
    });
    const paths = [join(at, "checkpoint.pth.tar"), pretrained()];
    const [probe, input] = await Promise.all(paths.map((path) => readCheckpoint<{ state_dict: Map<string, Tensor> }>(path)));
    expect(recogniseCheckpoint(probe)).toMatchObject({ kind: "linear-probe", numClasses: expect.any(Number) as unknown });
    for (const [key, tensor] of probe!.state_dict) {
      const own = input!.state_dict.get(key.replace("module.", "module.base_encoder."));
      if (!/^module\.(head|fc)\./.test(key)) expect([key, own !== undefined && torch.equal(own, tensor)]).toEqual([key, true]);
    }
    disposeTensors([probe, input]);
  }, 120_000);
});
