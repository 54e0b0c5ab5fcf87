/**
 * Two processes of upstream's own program (DistributedDataParallel, keys gathered by its code, BatchNorm over both) against two of ours; needs
 * MOCO_TEST_PYTHON and MOCO_TEST_UPSTREAM.
 */
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { disposeTensors, readCheckpoint } from "../../../lib/checkpoint/index.js";
import type { Tensor } from "../../../lib/torch/index.js";
import { maxAbsolute, numbers } from "../../support/digest.js";
import { valuesOfRanks } from "../../support/rankProcesses.js";
import { temporaryFolder } from "../../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../../support/tensorsLeft.js";
import { archName, pretrainHere, type TinyTraining } from "./tinyTraining.js";
import { canRunUpstream, runUpstream } from "./upstream.js";
import type { RankOutcome } from "./upstreamRanks.js";

const shared = { "moco-m": 0.99, "moco-dim": 8, "moco-mlp-dim": 16, epochs: 4, "warmup-epochs": 1, "batch-size": 12 };
const trainings: [string, TinyTraining][] = [
  ["ViT with AdamW", {
    arch: { vit_tiny: { img_size: 16, patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2 } },
    batches: { seed: 21, size: 12, image: 16, perEpoch: 4 },
    options: { ...shared, optimizer: "adamw", lr: 0.02, wd: 0.1, "moco-t": 0.2 }, scaler: false,
  }],
  ["ResNet with LARS", {
    arch: { resnet_tiny: { layers: [1, 1, 1, 1], width: 4 } },
    batches: { seed: 22, size: 12, image: 32, perEpoch: 4 },
    options: { ...shared, optimizer: "lars", lr: 6, wd: 1e-6, "moco-t": 1 }, scaler: false,
  }],
];

(canRunUpstream ? describe : describe.skip)("with upstream's own code", () => {
  expectNoTensorsLeft();
  const folder = temporaryFolder("upstream-ranks");

  test.each(trainings)("main_moco.py in several processes does our steps: %s", async (name, training) => {
    const path = await pretrainHere(join(folder, archName(training)), training);
    for (const ranks of name.startsWith("ViT") ? [2, 3] : [2]) {
      const upstream = runUpstream(folder, training, { dtype: "float64", args: ["--resume", path], ranks });
      const ours = await valuesOfRanks<RankOutcome>(ranks, new URL("./upstreamRanks.js", import.meta.url).href, "goOn", { path, training, epochs: [2, 4] });
      const losses = ours[0]!.losses.map((_, i) => ours.reduce((sum, each) => sum + each.losses[i]!, 0) / ranks);
      expect(upstream.losses).toHaveLength(8);
      // Each rank has other images, and so another loss.
      expect(Math.abs(ours[0]!.losses[0]! - ours[1]!.losses[0]!)).toBeGreaterThan(1e-6);
      expect(maxAbsolute(losses, upstream.losses)).toBeLessThan(1e-9);
      const checkpoint = await readCheckpoint<{ state_dict: Map<string, Tensor> }>(join(upstream.folder, "checkpoint_0003.pth.tar"));
      const found = new Map(ours[0]!.values);
      for (const [key, tensor] of checkpoint.state_dict) {
        const off = maxAbsolute(found.get(`state_dict.${key.replace(/^module\./, "")}`)!, numbers(tensor));
        expect([key, off < 1e-8]).toEqual([key, true]);
      }
      disposeTensors(checkpoint);
    }
  }, 400_000);
});
