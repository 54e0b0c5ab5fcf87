import { classifierOf } from "../encoder/classifier.js";
import { ConvertError } from "../encoder/convertError.js";
import type { ReadEncoder } from "../encoder/readEncoder.js";
import { linear } from "./convolution.js";
import { GraphBuilder, type Value } from "./graphBuilder.js";
import { imageInput, normalisedImages } from "./imageInput.js";
import { elementTypes, type ValueInfo } from "./onnxMessages.js";
import type { OnnxLayer, OnnxOptions } from "./onnxOptions.js";
import { resnetFeatures } from "./resnetGraph.js";
import { vitFeatures } from "./vitGraph.js";

/** An encoder as a graph, not yet written. */
export interface EncoderGraph {
  graph: GraphBuilder;
  input: ValueInfo;
  outputs: ValueInfo[];
  layer: OnnxLayer;
  featureDim: number;
  /** Outputs of the classifier; null without. */
  numClasses: number | null;
}

/**
 * Builds the graph of the encoder that a file holds. Its initialisers refer to the file's tensors.
 *
 * @throws ConvertError where heads, layer or classifier are missing
 */
export function encoderGraph({ recognised, backbone, spec }: ReadEncoder, options: OnnxOptions): EncoderGraph {
  const { precision = "float32", withHead = false, preprocess = false } = options;
  const { sizes, numHeads, normEps } = spec;
  const layer = options.layer ?? (sizes.family === "vit" ? "class" : "pooled");
  const featureDim = sizes.family === "vit" ? sizes.width : sizes.width * 8 * (sizes.block === "bottleneck" ? 4 : 1);
  if ((layer === "pooled") === (sizes.family === "vit")) {
    const [kind, layers] = sizes.family === "vit" ? ["ViT", "class or patches"] : ["ResNet", "pooled"];
    throw new ConvertError(`the layer is "${layer}", and a ${kind} has ${layers}; choose one of those (--layer)`);
  }
  const graph = new GraphBuilder(precision);
  const input = imageInput(spec, preprocess);
  const images = normalisedImages(graph, input);
  let features: Value;
  if (sizes.family === "resnet") features = resnetFeatures(graph, images, backbone, sizes);
  else {
    if (numHeads === null) {
      throw new ConvertError(
        `the number of attention heads is unknown, and no convention fits the width ${sizes.width}; give it with --heads`,
      );
    }
    features = vitFeatures(graph, images, backbone, { sizes, numHeads, normEps, layer: layer === "patches" ? "patches" : "class" });
  }
  const outputs: ValueInfo[] = [];
  const addOutput = (name: string, value: Value, size: number, description: string): void => {
    if (graph.elementType === "float32") graph.output(name, "Identity", [value]);
    else graph.output(name, "Cast", [value], { to: elementTypes.float32 });
    outputs.push({ name, elementType: "float32", dims: ["batch", size], description });
  };
  addOutput("features", features, featureDim, {
    class: "the normalised class token", patches: "the mean of the normalised patch tokens", pooled: "the mean over the last feature map",
  }[layer]);
  let numClasses: number | null = null;
  if (withHead) {
    if (layer === "patches") throw new ConvertError('the classifier reads the class token; leave out the layer "patches" (--layer)');
    const classifier = classifierOf(recognised);
    if (classifier === null) {
      throw new ConvertError(
        `a classifier was asked for (--with-head), and the file of kind ${recognised.kind} has none; give the file of a linear probe or of ` +
        "a fine-tuned encoder",
      );
    }
    const [classes, reads] = classifier.weight.shape as [number, number];
    if (reads !== featureDim) {
      throw new ConvertError(`the classifier reads ${reads} features, and the encoder has ${featureDim}; the file is damaged`);
    }
    numClasses = classes;
    const logits = graph.section("classifier", () => linear(graph, features, "classifier", classifier));
    addOutput("logits", logits, classes, "one score for each class, before any softmax");
  }
  return { graph, input, outputs, layer, featureDim, numClasses };
}
