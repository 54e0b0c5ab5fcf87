/**
 * What is to become one kernel each, with its backward written out in operators: the reference of a kernel's forward and backward, in
 * float64. `operators` is the same with libtorch's own autograd, as the models have it today.
 */
import * as torch from "../../lib/torch/index.js";
import type { FunctionContext, Tensor } from "../../lib/torch/index.js";

/** A computation in two forms, and inputs for it: small ones, so that numerical gradients can be taken. */
export interface FusedReference {
  readonly name: string;
  readonly reference: (...inputs: never[]) => Tensor | readonly Tensor[];
  readonly operators: (...inputs: never[]) => Tensor | readonly Tensor[];
  /** Those that a gradient is asked for require it. */
  inputs(options: { dtype: torch.DType; device: string }): readonly unknown[];
}

type Numbers = { dtype: torch.DType; device: string };
const random = (shape: number[], { dtype, device }: Numbers): Tensor =>
  torch.scope(() => torch.randn(shape, { dtype: "float64" }).to({ dtype, device, copy: true })).requiresGrad_();
const constant = (shape: number[], value: number, numbers: Numbers): Tensor => torch.full(shape, value, numbers);

/** `[sum, y]`: `sum = x + residual`, `y = layerNorm(sum)` over the last dimension. */
export const addLayerNorm = torch.customFunction({
  name: "addLayerNorm", onceDifferentiable: true,
  forward(context: FunctionContext<[sum: Tensor, mean: Tensor, invStd: Tensor, weight: Tensor]>, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: number) {
    const sum = x.add(residual); // [..., C]
    const mean = sum.mean([-1], true);
    const centred = sum.sub(mean);
    const invStd = centred.mul(centred).mean([-1], true).add(eps).rsqrt();
    context.saveForBackward(sum, mean, invStd, weight);
    return [sum, centred.mul(invStd).mul(weight).add(bias)];
  },
  backward(context, ofSum, ofY) {
    const [sum, mean, invStd, weight] = context.saved;
    const normalized = sum.sub(mean).mul(invStd);
    const rows = Array.from({ length: sum.ndim - 1 }, (_, i) => i);
    const scaled = ofY.mul(weight);
    const throughNorm = scaled.sub(scaled.mean([-1], true)).sub(normalized.mul(scaled.mul(normalized).mean([-1], true))).mul(invStd);
    const ofX = ofSum.add(throughNorm);
    return [ofX, ofX, ofY.mul(normalized).sum(rows), ofY.sum(rows), null];
  },
});

/** `gelu(x + bias)`, the exact one with the error function. */
export const biasGelu = torch.customFunction({
  name: "biasGelu",
  forward(context: FunctionContext<[x: Tensor, bias: Tensor]>, x: Tensor, bias: Tensor) {
    context.saveForBackward(x, bias);
    const sum = x.add(bias);
    return sum.mul(sum.mul(Math.SQRT1_2).erf().add(1).mul(0.5));
  },
  backward(context, gradient) {
    const [x, bias] = context.saved;
    const sum = x.add(bias);
    const cumulative = sum.mul(Math.SQRT1_2).erf().add(1).mul(0.5);
    const density = sum.mul(sum).mul(-0.5).exp().mul(1 / Math.sqrt(2 * Math.PI));
    const ofX = gradient.mul(cumulative.add(sum.mul(density)));
    return [ofX, ofX.sum(Array.from({ length: x.ndim - 1 }, (_, i) => i))];
  },
});

/** `relu(batchNorm(x))` of `[N, C]` in training: with the batch's statistics, which are folded into the running ones. */
export const batchNormRelu = torch.customFunction({
  name: "batchNormRelu", onceDifferentiable: true,
  forward(
    context: FunctionContext<[x: Tensor, mean: Tensor, invStd: Tensor, weight: Tensor, y: Tensor]>,
    x: Tensor, weight: Tensor, bias: Tensor, runningMean: Tensor, runningVar: Tensor, momentum: number, eps: number,
  ) {
    const n = x.shape[0]!;
    const mean = x.mean([0]); // [C]
    const centred = x.sub(mean);
    const variance = centred.mul(centred).mean([0]);
    const invStd = variance.add(eps).rsqrt();
    runningMean.mul_(1 - momentum).add_(mean.mul(momentum));
    runningVar.mul_(1 - momentum).add_(variance.mul((momentum * n) / (n - 1)));
    const y = centred.mul(invStd).mul(weight).add(bias).clampMin(0);
    context.saveForBackward(x, mean, invStd, weight, y);
    return y;
  },
  backward(context, gradient) {
    const [x, mean, invStd, weight, y] = context.saved;
    const normalized = x.sub(mean).mul(invStd);
    const passed = gradient.mul(y.gt(0));
    const [ofWeight, ofBias] = [passed.mul(normalized).sum([0]), passed.sum([0])];
    const n = x.shape[0]!;
    const ofX = passed.sub(ofBias.div(n)).sub(normalized.mul(ofWeight.div(n))).mul(invStd.mul(weight));
    return [ofX, ofWeight, ofBias, null, null, null, null];
  },
});

/** InfoNCE of `[N, D]` queries and `[M, D]` keys, whose first fitting one is `offset`; see `contrastiveLoss`. Keys have no gradient. */
export const normalizedCrossEntropy = torch.customFunction({
  name: "normalizedCrossEntropy", onceDifferentiable: true,
  forward(
    context: FunctionContext<[q: Tensor, length: Tensor, k: Tensor, logSumExp: Tensor], { temperature: number; offset: number }>,
    queries: Tensor, keys: Tensor, temperature: number, offset: number,
  ) {
    const length = lengthOf(queries);
    const [q, k] = [queries.div(length), keys.div(lengthOf(keys))];
    const logits = q.matmul(k.t()).div(temperature); // [N, M]
    const logSumExp = logits.logsumexp([1]);
    context.saveForBackward(q, length, k, logSumExp);
    Object.assign(context.state, { temperature, offset });
    return logSumExp.sub(logits.diagonal(offset)).mean().mul(2 * temperature);
  },
  backward(context, gradient) {
    const [q, length, k, logSumExp] = context.saved;
    const { temperature, offset } = context.state;
    // Each logit's gradient is its probability, less one for the own key; the logits are computed again rather than kept.
    const probabilities = q.matmul(k.t()).div(temperature).sub(logSumExp.unsqueeze(1)).exp();
    probabilities.diagonal(offset).sub_(1);
    const ofQ = probabilities.matmul(k).mul(gradient.mul(2 / q.shape[0]!));
    return [ofQ.sub(q.mul(ofQ.mul(q).sum([1], true))).div(length), null, null, null];
  },
});

const lengthOf = (rows: Tensor): Tensor => torch.linalgVectorNorm(rows, 2, [1], true).clampMin(1e-12);

export const fusedReferences: readonly FusedReference[] = [
  {
    name: "LayerNorm with residual add", reference: addLayerNorm,
    operators(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: number) {
      const sum = x.add(residual);
      return [sum, torch.layerNorm(sum, [sum.shape.at(-1)!], weight, bias, eps)];
    },
    inputs: (numbers) => [random([2, 3, 4], numbers), random([2, 3, 4], numbers), random([4], numbers), random([4], numbers), 1e-6],
  },
  {
    name: "bias + GELU", reference: biasGelu,
    operators: (x: Tensor, bias: Tensor) => torch.gelu(x.add(bias)),
    inputs: (numbers) => [random([2, 3, 4], numbers), random([4], numbers)],
  },
  {
    name: "BatchNorm1d + ReLU", reference: batchNormRelu,
    operators: (x: Tensor, weight: Tensor, bias: Tensor, runningMean: Tensor, runningVar: Tensor, momentum: number, eps: number) =>
      torch.relu(torch.batchNorm(x, weight, bias, runningMean, runningVar, true, momentum, eps, false)),
    inputs: (numbers) => [random([6, 3], numbers), random([3], numbers), random([3], numbers), constant([3], 0, numbers), constant([3], 1, numbers), 0.1, 1e-5],
  },
  {
    name: "normalise + logits + cross-entropy", reference: normalizedCrossEntropy,
    operators(queries: Tensor, keys: Tensor, temperature: number, offset: number) {
      const n = queries.shape[0]!;
      const logits = queries.div(lengthOf(queries)).matmul(keys.div(lengthOf(keys)).t()).div(temperature);
      const labels = torch.arange(offset, offset + n, { dtype: "int64", device: queries.device });
      return torch.crossEntropyLoss(logits, labels).mul(2 * temperature);
    },
    inputs: (numbers) => [random([3, 5], numbers), random([7, 5], numbers).detach(), 0.2, 2],
  },
];
