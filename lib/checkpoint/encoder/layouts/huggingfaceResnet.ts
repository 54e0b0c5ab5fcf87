import type { KeyRow, Layout } from "../keyMap.js";

/** Hugging Face's `ResNetModel`. */
export const huggingfaceResnet: Layout = {
  name: "huggingface-resnet",
  family: "resnet",
  signatures: ["embedder.embedder.convolution.weight"],
  rows: [
    ["conv1.weight", "embedder.embedder.convolution.weight"],
    ["bn1.{b}", "embedder.embedder.normalization.{b}"],
    ...stage("layer1", "encoder.stages.0"),
    ...stage("layer2", "encoder.stages.1"),
    ...stage("layer3", "encoder.stages.2"),
    ...stage("layer4", "encoder.stages.3"),
  ],
  classifiers: ["classifier.1.weight"],
  dropped: ["classifier.*"],
};

function stage(ours: string, theirs: string): KeyRow[] {
  return [
    [`${ours}.{n}.conv1.weight`, `${theirs}.layers.{n}.layer.0.convolution.weight`],
    [`${ours}.{n}.bn1.{b}`, `${theirs}.layers.{n}.layer.0.normalization.{b}`],
    [`${ours}.{n}.conv2.weight`, `${theirs}.layers.{n}.layer.1.convolution.weight`],
    [`${ours}.{n}.bn2.{b}`, `${theirs}.layers.{n}.layer.1.normalization.{b}`],
    [`${ours}.{n}.conv3.weight`, `${theirs}.layers.{n}.layer.2.convolution.weight`],
    [`${ours}.{n}.bn3.{b}`, `${theirs}.layers.{n}.layer.2.normalization.{b}`],
    [`${ours}.{n}.downsample.0.weight`, `${theirs}.layers.{n}.shortcut.convolution.weight`],
    [`${ours}.{n}.downsample.1.{b}`, `${theirs}.layers.{n}.shortcut.normalization.{b}`],
  ];
}
