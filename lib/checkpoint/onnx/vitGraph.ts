import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import type { VitSizes } from "../encoder/architecture.js";
import { convolveAndNormalise, convolveWithBias, linearOf } from "./convolution.js";
import type { GraphBuilder, Value } from "./graphBuilder.js";

export interface VitFunction {
  sizes: VitSizes;
  numHeads: number;
  normEps: number;
  /** The normalised class token, or the mean of the normalised patch tokens. */
  layer: "class" | "patches";
}

type State = ReadonlyMap<string, Tensor>;

/** A ViT's features [N, D] of images [N, 3, H, W]: `VisionTransformer.forwardFeatures`, or the mean of its patch tokens. */
export function vitFeatures(graph: GraphBuilder, images: Value, state: State, vit: VitFunction): Value {
  const { sizes: { depth, width }, layer } = vit;
  let tokens = graph.section("tokens", () => addClassAndPosition(graph, patchTokens(graph, images, state, vit), state)); // [N, T, D]
  for (let n = 0; n < depth; n++) {
    // Nothing reads the other tokens after the last block, so that block computes the class token only: [N, 1, D].
    tokens = transformerBlock(graph, tokens, state, `blocks.${n}`, vit, layer === "class" && n === depth - 1);
  }
  return graph.section("features", () => {
    const normalised = layerNorm(graph, tokens, state, "norm", vit.normEps);
    if (layer === "class") return graph.apply("Reshape", [normalised, graph.shape([-1, width])]);
    const end = 2 ** 31 - 1;
    const patches = graph.apply("Slice", [normalised, graph.shape([1]), graph.shape([end]), graph.shape([1])]);
    return graph.apply("ReduceMean", [patches], { axes: [1], keepdims: 0 });
  });
}

/** Patch tokens [N, patches, D], row by row. */
function patchTokens(graph: GraphBuilder, images: Value, state: State, { sizes: { stem, patchSize, width } }: VitFunction): Value {
  let x = images;
  if (stem === "patch") {
    x = convolveWithBias(graph, x, state, "patch_embed.proj", { stride: patchSize, padding: 0 }); // [N, D, gridH, gridW]
  } else {
    for (const i of [0, 3, 6, 9]) {
      const [convolution, norm] = [`patch_embed.proj.${i}`, `patch_embed.proj.${i + 1}`];
      x = graph.apply("Relu", [convolveAndNormalise(graph, x, state, convolution, norm, { stride: 2, padding: 1 })]);
    }
    x = convolveWithBias(graph, x, state, "patch_embed.proj.12", { stride: 1, padding: 0 });
  }
  return graph.apply("Transpose", [graph.apply("Reshape", [x, graph.shape([0, width, -1])])], { perm: [0, 2, 1] });
}

/**
 * [N, patches, D] to [N, 1 + patches, D]: a row of zeros is put before the patches, to which the class token is added together with the
 * positions. No node needs to know the size of the batch so.
 */
function addClassAndPosition(graph: GraphBuilder, patches: Value, state: State): Value {
  const padded = graph.apply("Pad", [patches, graph.shape([0, 1, 0, 0, 0, 0])]);
  const [classToken, positions] = [state.get("cls_token")!, state.get("pos_embed")!];
  const added = graph.parameter("cls_token_and_pos_embed", positions.shape, () => {
    const wide = positions.to("float32"); // the sum is not to be rounded to a checkpoint's half precision
    const [first, rest] = [wide.narrow(1, 0, 1), wide.narrow(1, 1, wide.size(1) - 1)];
    return torch.cat([first.add(classToken.reshape(first.shape)), rest], 1);
  });
  return graph.apply("Add", [padded, added]);
}

/** [N, T, D] to the same, or to the first token's row [N, 1, D]. */
function transformerBlock(graph: GraphBuilder, x: Value, state: State, name: string, vit: VitFunction, firstOnly: boolean): Value {
  const { normEps } = vit;
  const attended = graph.section(`${name}.attn`, () => {
    const normalised = layerNorm(graph, x, state, `${name}.norm1`, normEps);
    const residual = firstOnly ? firstToken(graph, x) : x;
    return graph.apply("Add", [residual, attention(graph, normalised, state, `${name}.attn`, vit, firstOnly)]);
  });
  return graph.section(`${name}.mlp`, () => {
    const hidden = linearOf(graph, layerNorm(graph, attended, state, `${name}.norm2`, normEps), state, `${name}.mlp.fc1`);
    return graph.apply("Add", [attended, linearOf(graph, gelu(graph, hidden), state, `${name}.mlp.fc2`)]);
  });
}

function attention(graph: GraphBuilder, x: Value, state: State, key: string, vit: VitFunction, firstOnly: boolean): Value {
  const { sizes: { width }, numHeads } = vit;
  const headDim = width / numHeads;
  let parts: Value[];
  if (firstOnly) {
    const q = linearOf(graph, firstToken(graph, x), state, `${key}.qkv`, [0, width]); // [N, 1, D]
    const keysAndValues = linearOf(graph, x, state, `${key}.qkv`, [width, 3 * width]); // [N, T, 2D]
    parts = [q, ...graph.applyTo("Split", [keysAndValues, graph.shape([width, width])], 2, { axis: -1 })];
  } else {
    const qkv = linearOf(graph, x, state, `${key}.qkv`); // [N, T, 3D]
    parts = graph.applyTo("Split", [qkv, graph.shape([width, width, width])], 3, { axis: -1 });
  }
  const heads = (part: Value, perm: number[]): Value =>
    graph.apply("Transpose", [graph.apply("Reshape", [part, graph.shape([0, 0, numHeads, headDim])])], { perm });
  const [q, k, v] = [heads(parts[0]!, [0, 2, 1, 3]), heads(parts[1]!, [0, 2, 3, 1]), heads(parts[2]!, [0, 2, 1, 3])];
  // Scaled before the product, so that it stays small in float16.
  const scaled = graph.apply("Mul", [q, graph.scalar("attention_scale", 1 / Math.sqrt(headDim))]); // [N, heads, T, d]
  const shares = graph.apply("Softmax", [graph.apply("MatMul", [scaled, k])], { axis: -1 }); // [N, heads, T, T]
  const attended = graph.apply("Transpose", [graph.apply("MatMul", [shares, v])], { perm: [0, 2, 1, 3] }); // [N, T, heads, d]
  return linearOf(graph, graph.apply("Reshape", [attended, graph.shape([0, 0, width])]), state, `${key}.proj`);
}

/** `x · Φ(x)` in the five nodes that runtimes know and make one of. */
function gelu(graph: GraphBuilder, x: Value): Value {
  const erf = graph.apply("Erf", [graph.apply("Div", [x, graph.scalar("sqrt_2", Math.SQRT2)])]);
  const twice = graph.apply("Mul", [x, graph.apply("Add", [erf, graph.scalar("one", 1)])]);
  return graph.apply("Mul", [twice, graph.scalar("half", 0.5)]);
}

function layerNorm(graph: GraphBuilder, x: Value, state: State, key: string, eps: number): Value {
  const part = (name: string): Value => {
    const values = state.get(`${key}.${name}`)!;
    return graph.parameter(`${key}.${name}`, values.shape, () => values);
  };
  return graph.apply("LayerNormalization", [x, part("weight"), part("bias")], { axis: -1, epsilon: { float: eps } });
}

/** [N, T, D] to [N, 1, D]. */
function firstToken(graph: GraphBuilder, x: Value): Value {
  return graph.apply("Slice", [x, graph.shape([0]), graph.shape([1]), graph.shape([1])]);
}
