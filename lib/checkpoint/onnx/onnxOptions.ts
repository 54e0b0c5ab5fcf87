/** The precisions that an ONNX model's weights can have. */
export const onnxPrecisions = ["float32", "float16", "int8"] as const;
/** How the weights are stored, and in what the network computes: see {@link OnnxOptions.precision}. */
export type OnnxPrecision = (typeof onnxPrecisions)[number];

/** The features that an ONNX model can give. */
export const onnxLayers = ["class", "patches", "pooled"] as const;
/** What of an encoder becomes the features: see {@link OnnxOptions.layer}. */
export type OnnxLayer = (typeof onnxLayers)[number];

/** How an encoder becomes an ONNX model. */
export interface OnnxOptions {
  /**
   * - `"float32"` (default): as the checkpoint has it.
   * - `"float16"`: weights and computation in float16, input and output in float32. Half the size.
   * - `"int8"`: the weights of convolutions and matrix products as 8-bit whole numbers with one scale for each output channel,
   *   computation in float32. A quarter of the size.
   */
  precision?: OnnxPrecision | undefined;
  /** `"class"`: a ViT's class token, the default; `"patches"`: the mean of its patch tokens. `"pooled"`: all that a ResNet has. */
  layer?: OnnxLayer | undefined;
  /** A second output `logits`, that of the classifier in a linear probe or a fine-tuned checkpoint. Default false. */
  withHead?: boolean | undefined;
  /** The input is `pixels`, uint8 [N, H, W, 3], and the graph normalises it. Default false: `images`, float32 [N, 3, H, W]. */
  preprocess?: boolean | undefined;
}
