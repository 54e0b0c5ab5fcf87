import { IMAGENET_MEAN, IMAGENET_STD } from "../encoder/inputNormalization.js";
import type { EncoderSpec } from "../encoder/encoderSpec.js";
import * as torch from "../../torch/index.js";
import type { GraphBuilder, Value } from "./graphBuilder.js";
import { elementTypes, type ValueInfo } from "./onnxMessages.js";

/** Pixels of a ResNet's input where evaluation is meant; it takes any from 32. */
const USUAL_SIZE: readonly [number, number] = [224, 224];

/** Height and width that evaluation gives the encoder. */
export function inputSize({ imageSize }: EncoderSpec): readonly [number, number] {
  return imageSize ?? USUAL_SIZE;
}

/** Length of the shorter side before the centre is cut out: 256 for 224, as in the paper's evaluation. */
export function resizeShorter(spec: EncoderSpec): number {
  return Math.round((Math.max(...inputSize(spec)) * 8) / 7);
}

/**
 * The graph's input: float32 images [N, 3, H, W], normalised; or, with `preprocess`, the pixels as pictures have them, uint8
 * [N, H, W, 3]. A ResNet takes any height and width.
 */
export function imageInput(spec: EncoderSpec, preprocess: boolean): ValueInfo {
  const [height, width] = spec.imageSize ?? ["height", "width"];
  return preprocess
    ? { name: "pixels", elementType: "uint8", dims: ["batch", height, width, 3], description: "RGB pixels from 0 to 255, row by row" }
    : {
        name: "images", elementType: "float32", dims: ["batch", 3, height, width],
        description: `RGB, each channel (pixel / 255 - mean) / std with mean ${IMAGENET_MEAN.join(", ")} and std ${IMAGENET_STD.join(", ")}`,
      };
}

/** From the graph's input to normalised images [N, 3, H, W] of the type that the network computes in. */
export function normalisedImages(graph: GraphBuilder, input: ValueInfo): Value {
  const cast = (): Value => graph.apply("Cast", [input.name], { to: elementTypes[graph.elementType] });
  if (input.elementType === graph.elementType) return input.name;
  if (input.elementType !== "uint8") return graph.section("input", cast);
  return graph.section("input", () => {
    const pixels = cast();
    const images = graph.apply("Transpose", [pixels], { perm: [0, 3, 1, 2] });
    // (pixel / 255 - mean) / std as one product and one sum, with constants that were rounded once.
    const perChannel = (name: string, of: (channel: number) => number): Value =>
      graph.parameter(name, [1, 3, 1, 1], () => torch.tensor(Float64Array.from([0, 1, 2], of), [1, 3, 1, 1]));
    const scale = perChannel("pixel_scale", (c) => 1 / (255 * IMAGENET_STD[c]!));
    const shift = perChannel("pixel_shift", (c) => -IMAGENET_MEAN[c]! / IMAGENET_STD[c]!);
    return graph.apply("Add", [graph.apply("Mul", [images, scale]), shift]);
  });
}
