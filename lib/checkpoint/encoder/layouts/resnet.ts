import type { Layout } from "../keyMap.js";

/** torchvision's `ResNet`, whose names timm's and upstream have and so do we. */
export const resnet: Layout = {
  name: "resnet",
  family: "resnet",
  signatures: ["layer1.0.conv1.weight"],
  rows: [
    ["conv1.weight", "conv1.weight"],
    ["bn1.{b}", "bn1.{b}"],
    ...["layer1", "layer2", "layer3", "layer4"].flatMap((stage): [string, string][] =>
      ["conv1.weight", "bn1.{b}", "conv2.weight", "bn2.{b}", "conv3.weight", "bn3.{b}", "downsample.0.weight", "downsample.1.{b}"].map(
        (key) => [`${stage}.{n}.${key}`, `${stage}.{n}.${key}`],
      ),
    ),
  ],
  classifiers: ["fc.weight"],
  // Classifier, or MoCo's projector (fc.0.weight ...).
  dropped: ["fc.*"],
};
