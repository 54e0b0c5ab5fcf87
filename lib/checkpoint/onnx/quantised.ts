import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";

/** The largest of the whole numbers; -128 is left out, so that they lie symmetrically about 0. */
const LARGEST = 127;

/** Values of one number in float32 for each output channel: the channel's largest magnitude stands for 127. */
export function scalesOf(weight: Tensor, channelAxis: number): Tensor {
  const others = weight.shape.map((_, axis) => axis).filter((axis) => axis !== channelAxis);
  const largest = torch.maximum(weight.amax(others), weight.amin(others).neg()) as Tensor; // a copy of the magnitudes would take memory
  const scales = largest.to("float32").div(LARGEST) as Tensor;
  // A channel of zeros has no scale of its own.
  return torch.where(scales.gt(0), scales, torch.onesLike(scales)) as Tensor;
}

/** The weight over its channel's scale, as the nearest whole numbers: int8. */
export function quantised(weight: Tensor, channelAxis: number): Tensor {
  const shape = weight.shape.map((_, axis) => (axis === channelAxis ? -1 : 1));
  const scales = scalesOf(weight, channelAxis).reshape(shape);
  return weight.div(scales).round_().clamp_(-LARGEST, LARGEST).to("int8");
}
