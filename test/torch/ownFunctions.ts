import * as torch from "../../lib/torch/index.js";
import type { FunctionContext, Tensor } from "../../lib/torch/index.js";

/** `x * x`; `look` is called in backward. */
export const squareThatLooks = (look: (gradient: Tensor, x: Tensor) => void) => torch.customFunction({
  name: "square",
  forward(context: FunctionContext<[x: Tensor]>, x: Tensor) {
    context.saveForBackward(x);
    return x.mul(x);
  },
  backward(context, gradient) {
    const [x] = context.saved;
    look(gradient, x);
    return [gradient.mul(x).mul(2)];
  },
});

/** `x * x`, for the tests of functions of one's own. */
export const square = squareThatLooks(() => undefined);

export const leaf = (...values: number[]): Tensor => torch.tensor(values, undefined, { dtype: "float64", requiresGrad: true });

export const valuesOf = (tensor: Tensor | null | undefined): unknown => tensor?.toArray() ?? null;
