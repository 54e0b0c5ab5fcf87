import { BatchNorm1d, Linear, ReLU, Sequential, type Module } from "../nn/index.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";

export interface MLPHeadOptions {
  /** Number of linear layers. */
  layers: number;
  inputDim: number;
  hiddenDim: number;
  outputDim: number;
  /** End in a BatchNorm without scale and shift, after SimCLR's design. */
  lastBatchNorm: boolean;
}

/**
 * The MLP behind an encoder: linear layers without bias, BatchNorm and ReLU between them (MoCo v3, section 4 "MLP heads"). It keeps PyTorch's
 * default initialisation of linear layers, also behind a ViT. Takes `[N, inputDim]` to `[N, outputDim]`.
 */
export class MLPHead extends Sequential {
  constructor({ layers, inputDim, hiddenDim, outputDim, lastBatchNorm }: MLPHeadOptions) {
    const modules: Module[] = [];
    for (let layer = 1; layer <= layers; layer++) {
      const last = layer === layers;
      const width = last ? outputDim : hiddenDim;
      modules.push(new Linear(layer === 1 ? inputDim : hiddenDim, width, { bias: false }));
      if (!last) modules.push(new BatchNorm1d(width), new ReLU(true));
      else if (lastBatchNorm) modules.push(new BatchNorm1d(width, { affine: false }));
    }
    super(...modules);
  }

  /**
   * Both views at once: `[2N, inputDim]`, the first view's rows first, to `[2N, outputDim]`.
   *
   * Equals two calls, the first view first: each BatchNorm takes its statistics from one view at a time and counts two batches. The linear
   * layers, whose weights outweigh a batch of features by far, are read once, and their gradients need no second accumulation.
   *
   * Computed in float32 or float64, also under autocast: heads are half a per cent of a ViT-S's arithmetic, and half precision in them adds an
   * eighth to the error of the gradient (docs/benchmarks.md).
   */
  forwardViews(features: Tensor): Tensor {
    return torch.autocast({ device: features.device.split(":")[0], enabled: false }, () => torch.scope(() => {
      let current = features.dtype === "float64" ? features : features.to("float32");
      for (const layer of this.layers) {
        const next =
          layer instanceof BatchNorm1d ? torch.cat(current.chunk(2, 0).map((view) => layer.forward(view))) : layer.forward(current);
        if (next !== current && current !== features) current.dispose();
        current = next;
      }
      return current;
    }));
  }
}

/** What a kind of encoder gets for heads: a ViT one more layer in the projector, and a BatchNorm at the predictor's end. */
export const headLayouts = {
  head: { projectorLayers: 3, predictorLayers: 2, predictorLastBatchNorm: true },
  fc: { projectorLayers: 2, predictorLayers: 2, predictorLastBatchNorm: false },
} as const;
