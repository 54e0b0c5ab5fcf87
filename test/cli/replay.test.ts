/** `moco pretrain --replay` in a process of its own: what it prints, and its exit codes. */
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { disposeTensors, readCheckpoint, writeCheckpoint } from "../../lib/checkpoint/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { FAILED_STEP_KEY, type FailedStep } from "../../lib/train/stability/failedStep.js";
import { png, synthetic, withFolder } from "../data/pixels.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { startMoco } from "./moco.js";

expectNoTensorsLeft();

test("finds a layer that overflows: 0 where it is found, 1 where all is finite", async () => {
  const images = Object.fromEntries(await Promise.all(Array.from({ length: 8 }, async (_, i) => [`photos/${i}.png`, await png(synthetic(i))] as const)));
  await withFolder(images, async (folder) => {
    const words = "-a resnet18 --image-size 32 -b 4 --moco-dim 8 --moco-mlp-dim 16 --lr 1e38 --warmup-epochs 0 --seed 0 --device cpu --threads 1 --quiet";
    const failed = await startMoco(["pretrain", "photos", ...words.split(" "), "--out", "run"], { cwd: folder });
    expect(failed.code).toBe(1);
    const command = /moco pretrain --replay (run\/failed_step_\d+\.pth\.tar)/.exec(failed.stderr);
    expect(command).not.toBeNull();

    // The update was what would overflow: nothing in the step itself.
    const path = command![1]!;
    const update = await startMoco(["pretrain", "--replay", path], { cwd: folder });
    expect([update.code, update.stdout]).toEqual([0, expect.stringContaining("All values are finite: the update with this learning rate")]);

    // The same batch with a layer whose results are beyond float32.
    const value = await readCheckpoint<{ state_dict: Map<string, Tensor>; [FAILED_STEP_KEY]: FailedStep }>(join(folder, path), { tagFloats: true });
    value[FAILED_STEP_KEY].what = "loss";
    await writeCheckpoint(join(folder, "sound.pth.tar"), value);
    torch.noGrad(() => value.state_dict.get("module.base_encoder.layer3.1.conv2.weight")!.fill_(3e38));
    await writeCheckpoint(join(folder, "planted.pth.tar"), value);
    disposeTensors(value);
    const planted = await startMoco(["pretrain", "--replay", "planted.pth.tar", "--threads", "1"], { cwd: folder });
    expect([planted.code, planted.stderr]).toEqual([0, ""]);
    expect(planted.stdout).toMatch(/first result that is not finite: \w+ in base_encoder\.layer3\.1\.conv2 \(Conv2d\)\n {2}result {2}float32\[4, 256, 2, 2\]: \d+ (infinite|not a number)/);
    const sound = await startMoco(["pretrain", "--replay", "sound.pth.tar"], { cwd: folder });
    expect([sound.code, sound.stdout]).toEqual([1, expect.stringContaining("All values are finite this time")]);
  });
}, 120_000);
