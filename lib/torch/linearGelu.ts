import { native } from "../native.js";
import { isGradEnabled } from "./autograd.js";
import { showObserver } from "./dispatch.js";
import { gelu, linear } from "./ops.generated.js";
import { Tensor } from "./tensor.js";

/**
 * `gelu(linear(x, weight, bias))`, the same up to rounding: in one pass over memory where no gradient is wanted and oneDNN computes linear layers
 * (see `oneDnnLinear` of {@link BackendFlags}).
 *
 * @param x `[..., in]`
 * @param weight `[out, in]`
 * @param bias `[out]`
 * @returns `[..., out]`
 */
export function linearGelu(x: Tensor, weight: Tensor, bias: Tensor | null = null): Tensor {
  const slot = isGradEnabled() ? -1 : native.linearGelu(x.liveSlot("linearGelu"), weight.liveSlot("linearGelu"), bias === null ? -1 : bias.liveSlot("linearGelu"));
  if (slot < 0) return gelu(linear(x, weight, bias));
  const result = new Tensor(slot);
  showObserver("linear_gelu", [x, weight, bias], result);
  return result;
}
