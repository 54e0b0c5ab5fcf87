/** Attention that is looked at is the attention that the network computes with. */
import { expect, test } from "@jest/globals";
import { VisionTransformer } from "../../lib/models/index.js";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

const close = (a: Tensor, b: Tensor): number => torch.scope(() => a.sub(b).abs().max().item());

function tinyVit(): VisionTransformer {
  torch.manualSeed(3);
  const vit = new VisionTransformer({ imageSize: [24, 32], patchSize: 8, embedDim: 24, depth: 3, numHeads: 4, numClasses: 0 });
  // Biases are 0 at first, which would hide one that is left out; and larger weights make attention uneven.
  torch.noGrad(() => torch.scope(() => {
    for (const each of vit.parameters()) if (each.requiresGrad) each.add_(torch.randn([...each.shape]).mul(0.2));
  }));
  vit.eval();
  return vit;
}

test("weights · values, projected, are what the attention gives, and rows sum to 1", () => {
  const vit = tinyVit();
  torch.noGrad(() => torch.scope(() => {
    const { attn } = vit.blocks.layers[1]!;
    const x = torch.randn([2, 13, 24]);
    const weights = attn.attentionWeights(x); // [2, 4, 13, 13]
    expect(weights.shape).toEqual([2, 4, 13, 13]);
    expect(close(weights.sum([-1]), torch.ones([2, 4, 13]))).toBeLessThan(1e-6);
    const values = attn.qkv.forward(x).chunk(3, -1)[2]!.unflatten(-1, [4, 6]).transpose(1, 2); // [2, 4, 13, 6]
    const output = attn.proj.forward(weights.matmul(values).transpose(1, 2).flatten(2));
    expect(close(output, attn.forward(x))).toBeLessThan(2e-6);
    expect(close(attn.attentionWeights(x, 1), weights.narrow(2, 0, 1))).toBeLessThan(1e-6);
    // Uneven enough that mixed-up heads or tokens would be seen.
    expect(weights.max().item() - weights.min().item()).toBeGreaterThan(0.1);
  }));
  vit.dispose();
});

test("the class token's attention of each block belongs to the tokens that reach it", () => {
  const vit = tinyVit();
  torch.noGrad(() => torch.scope(() => {
    const images = torch.randn([2, 3, 24, 32]);
    const shares = vit.classAttention(images);
    expect(shares.shape).toEqual([2, 3, 4, 13]);
    expect(close(shares.sum([-1]), torch.ones([2, 3, 4]))).toBeLessThan(1e-6);
    let tokens = torch.cat([vit.clsToken.expand([2, -1, -1]), vit.embedPatches(images)], 1).add(vit.posEmbed);
    vit.blocks.layers.forEach((block, i) => {
      const own = block.attn.attentionWeights(block.norm1.forward(tokens)).select(2, 0);
      expect(close(shares.select(1, i), own)).toBeLessThan(1e-6);
      tokens = block.forward(tokens);
    });
  }));
  expect([...vit.parameters()].every((each) => each.grad === null)).toBe(true);
  vit.dispose();
});
