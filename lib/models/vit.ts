import { Identity, init, LayerNorm, Sequential } from "../nn/index.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { ConvStem } from "./convStem.js";
import { Encoder } from "./encoder.js";
import { ModelConfigError, requireInteger, type ImageSize } from "./errors.js";
import { PatchEmbed, type PatchStem } from "./patchEmbed.js";
import { positionEmbedding2d, requireFourBlocks } from "./positionEmbedding.js";
import { Block, linear, NORM_EPS } from "./transformerBlock.js";

/** Sizes of a {@link VisionTransformer}; width must be divisible by its heads and by 4. */
export interface VisionTransformerOptions {
  /** Pixels of a square image, or [height, width]. Default 224. */
  imageSize?: number | ImageSize;
  /** Pixels of a patch's side. Default 16. */
  patchSize?: number;
  /** Width D of a token. Default 768. */
  embedDim?: number;
  /** Number of blocks. Default 12. */
  depth?: number;
  /** Attention heads; they divide embedDim. Default 12. */
  numHeads?: number;
  /** Hidden width of the MLPs over embedDim. Default 4. */
  mlpRatio?: number;
  /** Added to the variance in every LayerNorm. Default 1e-6. */
  normEps?: number;
  /** Outputs of the classifier; 0 for none. Default 1000. */
  numClasses?: number;
  /** Freeze the patch projection at its random start ("stop-grad-conv1"). No effect on a convolutional stem, which is stable anyway. */
  stopGradConv1?: boolean;
  /** One linear projection per patch (default), or a small stack of convolutions. */
  stem?: "patch" | "conv";
  /**
   * Stochastic depth: in training, a sample skips a branch of the last block with this probability, of the first with 0, of those between
   * with a share that grows linearly, as in DeiT. Default 0.
   */
  dropPath?: number;
}

/**
 * Vision Transformer as MoCo v3 trains it (Chen, Xie and He, 2021): class token, fixed 2-D sine-cosine position embedding, pre-norm blocks.
 * State-dict keys are those of timm's ViT, so upstream's checkpoints load.
 *
 * @throws ModelConfigError for sizes that do not fit each other.
 * @example new VisionTransformer({ imageSize: 48, patchSize: 8, embedDim: 96, depth: 4 }).forward(images) // [N, 1000]
 */
export class VisionTransformer extends Encoder {
  readonly headKey = "head";
  readonly featureDim: number;
  /** [height, width] of the images that it takes, in pixels. */
  readonly imageSize: ImageSize;
  /** Of the last block; see {@link VisionTransformerOptions.dropPath}. */
  readonly dropPath: number;
  /** Attention heads. No tensor's shape tells them, so whoever stores the weights stores this beside them. */
  readonly numHeads: number;
  readonly clsToken: Tensor; // [1, 1, D]
  readonly posEmbed: Tensor; // [1, 1 + patches, D]
  readonly patchEmbed: PatchStem;
  readonly blocks: Sequential<Block>;
  readonly norm: LayerNorm;

  constructor(options: VisionTransformerOptions = {}) {
    super();
    const { imageSize = 224, patchSize = 16, embedDim = 768, depth = 12, numHeads = 12, mlpRatio = 4, numClasses = 1000 } = options;
    const { stopGradConv1 = false, stem = "patch", normEps = NORM_EPS, dropPath = 0 } = options;
    const size: ImageSize = typeof imageSize === "number" ? [imageSize, imageSize] : imageSize;
    for (const [name, value] of Object.entries({ patchSize, embedDim, depth, numHeads })) requireInteger(name, value);
    size.forEach((pixels) => requireInteger("imageSize", pixels));
    requireInteger("numClasses", numClasses, 0);
    requireFourBlocks(embedDim);
    if (embedDim % numHeads !== 0) {
      throw new ModelConfigError(
        `embedDim ${embedDim} is not divisible by numHeads ${numHeads}: choose a number of heads that divides it.`,
      );
    }
    if (!(Math.floor(embedDim * mlpRatio) >= 1)) {
      throw new ModelConfigError(
        `mlpRatio is ${mlpRatio}: the MLPs of width ${embedDim} would have no hidden unit. Use 4, as the paper does.`,
      );
    }
    if (!(dropPath >= 0 && dropPath < 1)) {
      throw new ModelConfigError(`dropPath is ${dropPath}: it is a probability of at least 0 and below 1, such as 0.1.`);
    }
    const patchEmbed = stem === "conv" ? new ConvStem(size, patchSize, embedDim) : new PatchEmbed(size, patchSize, embedDim, stopGradConv1);
    this.featureDim = embedDim;
    this.imageSize = size;
    this.numHeads = numHeads;
    this.dropPath = dropPath;
    this.clsToken = this.parameter("cls_token", torch.empty([1, 1, embedDim]));
    this.posEmbed = this.parameter("pos_embed", positionEmbedding2d(...patchEmbed.gridSize, embedDim), { requiresGrad: false });
    this.patchEmbed = this.child("patch_embed", patchEmbed);
    const blocks = Array.from({ length: depth }, (_, i) => {
      return new Block(embedDim, numHeads, mlpRatio, { normEps, dropPath: depth > 1 ? (dropPath * i) / (depth - 1) : 0 });
    });
    this.blocks = this.child("blocks", new Sequential(...blocks));
    this.norm = this.child("norm", new LayerNorm(embedDim, normEps));
    this.head = numClasses > 0 ? linear(embedDim, numClasses) : new Identity();
    init.normal_(this.clsToken, 0, 1e-6);
  }

  /** Class-token features `[N, D]` of images `[N, 3, H, W]`. */
  forwardFeatures(images: Tensor): Tensor {
    return torch.scope(() => this.forwardClassToken(this.embedPatches(images)));
  }

  /**
   * Patch tokens `[N, patches, D]` of images `[N, 3, H, W]`, before class token and position embedding. They depend on `patchEmbed`
   * alone: where it is frozen, two encoders that share its weights need this only once.
   */
  embedPatches(images: Tensor): Tensor {
    return this.patchEmbed.forward(images);
  }

  /**
   * The normalised class token `[N, D]` that `patchTokens` `[N, patches, D]` lead to: `forwardTokens(patchTokens)[:, 0]`, cheaper.
   * Nothing reads the other tokens after the last block, so that block computes the class token only.
   */
  forwardClassToken(patchTokens: Tensor): Tensor {
    return torch.scope(() => {
      const last = this.blocks.layers.length - 1;
      const tokens = this.#runBlocks(this.#addClassAndPosition(patchTokens), last); // [N, 1 + patches, D]
      const classToken = (this.blocks.layers[last] as Block).forwardFirst(tokens); // [N, 1, D]
      return this.norm.forward(classToken.squeeze(1));
    });
  }

  /** All normalised tokens `[N, 1 + patches, D]`, the class token first, that `patchTokens` `[N, patches, D]` lead to. */
  forwardTokens(patchTokens: Tensor): Tensor {
    return torch.scope(() => this.norm.forward(this.#runBlocks(this.#addClassAndPosition(patchTokens), this.blocks.layers.length)));
  }

  /**
   * How the class token shares out its attention in each block and head: softmax(q kᵀ / √d) over all tokens, the class token first,
   * `[N, depth, heads, 1 + patches]`. Each row sums to 1. Without gradients: it is there to be looked at.
   */
  classAttention(images: Tensor): Tensor {
    return torch.noGrad(() => torch.scope(() => {
      let tokens = this.#addClassAndPosition(this.embedPatches(images)); // [N, 1 + patches, D]
      const shares = this.blocks.layers.map((block) => {
        const ofClassToken = torch.scope(() => block.attn.attentionWeights(block.norm1.forward(tokens), 1).squeeze(2)); // [N, heads, 1 + patches]
        tokens = block.forward(tokens);
        return ofClassToken;
      });
      return torch.stack(shares, 1);
    }));
  }

  #addClassAndPosition(patchTokens: Tensor): Tensor {
    const classTokens = this.clsToken.expand([patchTokens.shape[0] as number, -1, -1]); // [N, 1, D]
    return torch.cat([classTokens, patchTokens], 1).add_(this.posEmbed);
  }

  /** Runs the first `count` blocks. Frees each block's input once used: without gradients nothing else needs it. */
  #runBlocks(tokens: Tensor, count: number): Tensor {
    for (const block of this.blocks.layers.slice(0, count)) {
      const next = block.forward(tokens);
      tokens.dispose();
      tokens = next;
    }
    return tokens;
  }
}
