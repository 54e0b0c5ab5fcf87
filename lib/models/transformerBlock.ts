import { dropPath, init, LayerNorm, Linear, Module } from "../nn/index.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";

/** Of every LayerNorm in the model unless told otherwise: the ViT paper's value, not PyTorch's default. */
export const NORM_EPS = 1e-6;

/** Multi-head self-attention (Vaswani et al., 2017): `[N, T, D]` to `[N, T, D]`. */
export class Attention extends Module {
  readonly qkv: Linear;
  readonly proj: Linear;

  constructor(readonly dim: number, readonly numHeads: number) {
    super();
    this.qkv = this.child("qkv", new Linear(dim, 3 * dim));
    this.proj = this.child("proj", linear(dim, dim));
    // Queries, keys and values are three D x D matrices in one: Xavier's fan out is that of one of them.
    const bound = Math.sqrt(6 / (dim + dim));
    init.uniform_(this.qkv.weight, -bound, bound);
    if (this.qkv.bias) init.zeros_(this.qkv.bias);
  }

  forward(x: Tensor): Tensor {
    const [q, k, v] = this.qkv.forward(x).chunk(3, -1) as [Tensor, Tensor, Tensor]; // each [N, T, D]
    return this.proj.forward(this.#attend(q, k, v));
  }

  /** The first token's row of `forward`, `[N, 1, D]`: only its query is needed, though all tokens' keys and values. */
  forwardFirst(x: Tensor): Tensor {
    const { dim } = this;
    const { weight, bias } = this.qkv;
    // Together in memory: for rows that lie apart libtorch's product depends, in its rounding, on whether the weights are learned.
    const first = x.narrow(1, 0, 1).contiguous(); // [N, 1, D]
    const q = torch.linear(first, weight.narrow(0, 0, dim), bias && bias.narrow(0, 0, dim)); // [N, 1, D]
    const keysAndValues = torch.linear(x, weight.narrow(0, dim, 2 * dim), bias && bias.narrow(0, dim, 2 * dim)); // [N, T, 2D]
    const [k, v] = keysAndValues.chunk(2, -1) as [Tensor, Tensor];
    return this.proj.forward(this.#attend(q, k, v));
  }

  /**
   * The shares by which `forward` mixes the values: softmax(q kᵀ / √d) per head, `[N, heads, Q, T]`, of the first `queries` tokens.
   * `forward` itself never has them in memory; this is for looking at them.
   *
   * @param queries Q; default all T tokens
   */
  attentionWeights(x: Tensor, queries: number = x.size(1)): Tensor {
    const { dim } = this;
    const { weight, bias } = this.qkv;
    const [ofQueries, ofKeys] = [0, dim].map((at) => [weight.narrow(0, at, dim), bias && bias.narrow(0, at, dim)] as const);
    const q = torch.linear(x.narrow(1, 0, queries).contiguous(), ...ofQueries!); // [N, Q, D]
    const k = torch.linear(x, ...ofKeys!); // [N, T, D]
    return this.#heads(q).matmul(this.#heads(k).transpose(-2, -1)).div(Math.sqrt(dim / this.numHeads)).softmax(-1);
  }

  /** softmax(q kᵀ / √d) v per head. `q` [N, Q, D], `k` and `v` [N, T, D]; returns [N, Q, D]. */
  #attend(q: Tensor, k: Tensor, v: Tensor): Tensor {
    const attended = torch.scaledDotProductAttention(this.#heads(q), this.#heads(k), this.#heads(v)); // [N, heads, Q, d]
    return attended.transpose(1, 2).flatten(2);
  }

  /** [N, T, D] to [N, heads, T, d] with d = D / heads, without a copy. */
  #heads(x: Tensor): Tensor {
    return x.unflatten(-1, [this.numHeads, this.dim / this.numHeads]).transpose(1, 2);
  }
}

/** Two linear layers with GELU between them: `[..., D]` to `[..., D]`. */
export class Mlp extends Module {
  readonly fc1: Linear;
  readonly fc2: Linear;

  constructor(dim: number, hiddenDim: number) {
    super();
    this.fc1 = this.child("fc1", linear(dim, hiddenDim));
    this.fc2 = this.child("fc2", linear(hiddenDim, dim));
  }

  forward(x: Tensor): Tensor {
    return this.fc2.forward(this.fc1.forwardGelu(x));
  }
}

/** Widths of a transformer {@link Block}. */
export interface BlockOptions {
  /** Added to the variance in both LayerNorms. Default 1e-6. */
  normEps?: number;
  /** Probability that a sample skips each of the two branches in training (stochastic depth). Default 0. */
  dropPath?: number;
}

/**
 * Pre-norm transformer block (Dosovitskiy et al., 2021): attention, then MLP, each on normalised input and added back. `[N, T, D]` to the
 * same.
 */
export class Block extends Module {
  readonly norm1: LayerNorm;
  readonly attn: Attention;
  readonly norm2: LayerNorm;
  readonly mlp: Mlp;

  readonly dropPath: number;

  constructor(dim: number, numHeads: number, mlpRatio: number, { normEps = NORM_EPS, dropPath = 0 }: BlockOptions = {}) {
    super();
    this.dropPath = dropPath;
    this.norm1 = this.child("norm1", new LayerNorm(dim, normEps));
    this.attn = this.child("attn", new Attention(dim, numHeads));
    this.norm2 = this.child("norm2", new LayerNorm(dim, normEps));
    this.mlp = this.child("mlp", new Mlp(dim, Math.floor(dim * mlpRatio)));
  }

  forward(x: Tensor): Tensor {
    const attended = x.add(this.#kept(this.attn.forward(this.norm1.forward(x))));
    return attended.add(this.#kept(this.mlp.forward(this.norm2.forward(attended))));
  }

  /** The first token's row of `forward`, `[N, 1, D]`, at about a sixth of its cost. */
  forwardFirst(x: Tensor): Tensor {
    const first = x.narrow(1, 0, 1).add(this.#kept(this.attn.forwardFirst(this.norm1.forward(x)))); // [N, 1, D]
    return first.add(this.#kept(this.mlp.forward(this.norm2.forward(first))));
  }

  /** What stochastic depth leaves of a branch: all of it in evaluation mode. */
  #kept(branch: Tensor): Tensor {
    return this.dropPath > 0 && this.training ? dropPath(branch, this.dropPath) : branch;
  }
}

/** A linear layer with MoCo v3's initialisation: Xavier uniform weight, zero bias. */
export function linear(inFeatures: number, outFeatures: number): Linear {
  const layer = new Linear(inFeatures, outFeatures);
  init.xavierUniform_(layer.weight);
  if (layer.bias) init.zeros_(layer.bias);
  return layer;
}
