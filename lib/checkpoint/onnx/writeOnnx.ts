import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { packageRoot } from "../../setup/packageRoot.js";
import { ConvertError } from "../encoder/convertError.js";
import { IMAGENET_MEAN, IMAGENET_STD } from "../encoder/inputNormalization.js";
import type { ReadEncoder } from "../encoder/readEncoder.js";
import { diskFiles, writeDurably, type FileLayer } from "../files/durableFile.js";
import { writeElements } from "../writeElements.js";
import { writeFailure } from "../writeFailure.js";
import { encoderGraph, type EncoderGraph } from "./encoderGraph.js";
import { inputSize, resizeShorter } from "./imageInput.js";
import { dataBytes, elementBytes, graphHead, initializerHead, modelHead, type ModelInfo } from "./onnxMessages.js";
import type { OnnxOptions } from "./onnxOptions.js";

/**
 * Version of the operators. 17 is the first with LayerNormalization as an operator, and old enough for every runtime of today; of what came
 * later only Gelu (20) would serve, which runtimes make out of its parts by themselves.
 */
export const ONNX_OPSET = 17;
/** Version of the file format that came with this opset. */
const IR_VERSION = 8;

/** Protocol buffers hold less than 2 GiB, and so does an ONNX file without further files beside it. */
const MOST_BYTES = 2 ** 31 - 1;

/** Dimensions and the name of what was written. */
export interface WrittenOnnx {
  tensors: number;
  bytes: number;
}

/**
 * Writes an encoder as an ONNX model, whose weights are in the file. Batch normalisations are folded into the convolutions before them. One
 * weight after the other is converted and written: besides what was read, copies of one of them are in memory.
 *
 * @param path appears complete or not at all
 * @throws ConvertError for what the graph lacks and for models of 2 GiB and more; CheckpointError where the file cannot be written
 */
export async function writeOnnx(read: ReadEncoder, path: string, options: OnnxOptions, files: FileLayer = diskFiles): Promise<WrittenOnnx> {
  const built = encoderGraph(read, options);
  const { graph: { nodes, initializers }, input, outputs } = built;
  const model = modelInfo(read, built, options);
  const graph = graphHead(read.spec.arch ?? "encoder", model.description, nodes, [input], outputs);
  const heads = initializers.map((each) => initializerHead(each));
  const graphBytes = initializers.reduce((sum, each, i) => sum + heads[i]!.byteLength + dataBytes(each), graph.byteLength);
  requireSize(graphBytes, options);
  const head = modelHead(model, graphBytes);
  try {
    await writeDurably(path, async (sink) => {
      await sink.write(head);
      await sink.write(graph);
      for (const [i, { make, elementType }] of initializers.entries()) {
        await sink.write(heads[i]!);
        await writeElements(sink, make, elementBytes[elementType]);
      }
    }, files);
  } catch (error) {
    throw error instanceof ConvertError ? error : writeFailure(path, error);
  }
  return { tensors: initializers.length, bytes: head.byteLength + graphBytes };
}

/**
 * Every named architecture stays far below: wide_resnet101_2 has 0.5 GB.
 *
 * @throws ConvertError
 */
export function requireSize(bytes: number, { precision = "float32" }: OnnxOptions): void {
  if (bytes <= MOST_BYTES - 2 ** 16) return;
  const remedy = { float32: "--precision float16 halves it", float16: "--precision int8 halves it", int8: "no smaller precision is there" };
  throw new ConvertError(
    `the model has ${(bytes / 2 ** 30).toFixed(2)} GiB in ${precision}, and one ONNX file holds less than 2; ${remedy[precision]}`,
  );
}

/** What a program must know to use the model, for machines (`metadata_props`) and in words (`doc_string`). */
function modelInfo({ file, recognised, spec }: ReadEncoder, built: EncoderGraph, { precision = "float32", preprocess = false }: OnnxOptions): ModelInfo {
  const { layer, featureDim, numClasses } = built;
  const { version } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as { version: string };
  const [height, width] = inputSize(spec);
  const shorter = resizeShorter(spec);
  const metadata: Record<string, string> = {
    arch: spec.arch ?? "custom",
    image_size: `${height}x${width}`,
    resize_shorter: String(shorter),
    resize: "bilinear, antialiased (torchvision's Resize on a PIL image)",
    crop: "center",
    channels: "RGB",
    mean: IMAGENET_MEAN.join(","),
    std: IMAGENET_STD.join(","),
    normalization: preprocess ? "in the model" : "by the caller",
    layer,
    feature_dim: String(featureDim),
    precision,
    ...(spec.numHeads === null ? {} : { num_heads: String(spec.numHeads) }),
    ...(numClasses === null ? {} : { num_classes: String(numClasses) }),
    source: `${basename(file)} (${recognised.kind}${recognised.epoch === null ? "" : `, epoch ${recognised.epoch}`})`,
    license: "that of the source's weights",
  };
  const description =
    `Image encoder ${metadata.arch}, ${featureDim} features. Resize the shorter side to ${shorter} pixels (bilinear, antialiased), cut the ` +
    `${height}x${width} in the centre out, ` +
    (preprocess ? "and give the RGB pixels as they are." : "divide RGB by 255, subtract the mean and divide by std (see metadata).");
  return { irVersion: IR_VERSION, opset: ONNX_OPSET, producer: "moco-v3", producerVersion: version, description, metadata };
}
