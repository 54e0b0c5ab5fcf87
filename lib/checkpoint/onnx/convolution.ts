import type { Tensor } from "../../torch/index.js";
import type { GraphBuilder, Value } from "./graphBuilder.js";

/** Added to the variance in every batch normalisation of the models here: PyTorch's default. */
const BATCH_NORM_EPS = 1e-5;

export interface Convolution {
  stride: number;
  padding: number;
  groups?: number;
}

type State = ReadonlyMap<string, Tensor>;

/**
 * A convolution without bias and the batch normalisation behind it, as one convolution with bias. In evaluation the normalisation is a
 * scale and a shift for each channel: folded into the weights in float64 they cost no time and one rounding.
 *
 * @param convolution key of the convolution, without `.weight`; @param norm that of the normalisation
 */
export function convolveAndNormalise(
  graph: GraphBuilder, x: Value, state: State, convolution: string, norm: string, options: Convolution,
): Value {
  const weight = state.get(`${convolution}.weight`)!;
  const part = (name: string): Tensor => state.get(`${norm}.${name}`)!.to("float64");
  const scale = (): Tensor => part("weight").div(part("running_var").add(BATCH_NORM_EPS).sqrt()) as Tensor;
  return convolve(graph, x, weight.shape, options, {
    weight: graph.weight(`${convolution}.weight`, weight.shape, 0, () => weight.mul(scale().reshape([-1, 1, 1, 1]))), // float64
    bias: graph.parameter(`${convolution}.bias`, [weight.size(0)], () => part("bias").sub(part("running_mean").mul(scale()))),
  });
}

/** A convolution with bias, as it is. */
export function convolveWithBias(graph: GraphBuilder, x: Value, state: State, key: string, options: Convolution): Value {
  const [weight, bias] = [state.get(`${key}.weight`)!, state.get(`${key}.bias`)!];
  return convolve(graph, x, weight.shape, options, {
    weight: graph.weight(`${key}.weight`, weight.shape, 0, () => weight),
    bias: graph.parameter(`${key}.bias`, bias.shape, () => bias),
  });
}

function convolve(
  graph: GraphBuilder, x: Value, shape: readonly number[], { stride, padding, groups = 1 }: Convolution,
  { weight, bias }: { weight: Value; bias: Value },
): Value {
  return graph.apply("Conv", [x, weight, bias], {
    kernel_shape: shape.slice(2), strides: [stride, stride], pads: [padding, padding, padding, padding], dilations: [1, 1], group: groups,
  });
}

/** `y = x · weightᵀ + bias` on the last dimension; some rows of the weight where `rows` are given, from and to. */
export function linear(
  graph: GraphBuilder, x: Value, key: string, { weight, bias }: { weight: Tensor; bias: Tensor | undefined },
  rows: readonly [from: number, to: number] = [0, weight.size(0)],
): Value {
  const [from, to] = rows;
  const suffix = to - from === weight.size(0) ? "" : `.${from}-${to}`;
  const of = (tensor: Tensor): Tensor => tensor.narrow(0, from, to - from);
  // ONNX's product has the inputs' dimension first.
  const product = graph.apply("MatMul", [
    x, graph.weight(`${key}.weight${suffix}`, [weight.size(1), to - from], 1, () => of(weight).t() as Tensor),
  ]);
  if (bias === undefined) return product;
  return graph.apply("Add", [product, graph.parameter(`${key}.bias${suffix}`, [to - from], () => of(bias))]);
}

/** The linear layer of a state dict under `key`. */
export function linearOf(graph: GraphBuilder, x: Value, state: State, key: string, rows?: readonly [number, number]): Value {
  return linear(graph, x, key, { weight: state.get(`${key}.weight`)!, bias: state.get(`${key}.bias`) }, rows);
}
