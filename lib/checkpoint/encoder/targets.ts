/** What `moco convert` writes. */
export const convertTargets = ["moco-v3", "deit", "timm", "torchvision", "huggingface", "safetensors", "encoder", "onnx"] as const;
/** A kind of file that an encoder can be written as. */
export type ConvertTarget = (typeof convertTargets)[number];

/**
 * What a file's name tells about what it should hold: ONNX for `.onnx`. Of the other endings each is that of several kinds, or of none.
 *
 * @example targetOf("encoder.onnx") // "onnx"
 */
export function targetOf(output: string): ConvertTarget | null {
  return output.endsWith(".onnx") ? "onnx" : null;
}
