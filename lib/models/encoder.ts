import { Module } from "../nn/index.js";
import type { Tensor } from "../torch/index.js";
import type { ImageSize } from "./errors.js";

/**
 * An image network: a backbone that gives one feature vector per image, then a head that reads it.
 *
 * The head is a classifier at first. MoCo puts its projector there, a linear probe a new classifier: the key in the state dict and its
 * place stay the same.
 */
export abstract class Encoder extends Module {
  /** Name of the head in the state dict: `head` for a ViT, `fc` for a ResNet. */
  abstract readonly headKey: "head" | "fc";
  /** Length of a feature vector. */
  abstract readonly featureDim: number;
  /** Height and width of the images that it is evaluated on, in pixels. A ViT takes no others, a ResNet any from 32. */
  abstract readonly imageSize: ImageSize;

  /** Feature vectors `[N, featureDim]` of images `[N, 3, H, W]`, before the head. */
  abstract forwardFeatures(images: Tensor): Tensor;

  /** The module that reads the features. A module assigned here takes its place; the former one is the caller's to dispose of. */
  get head(): Module {
    return this.children.get(this.headKey) as Module;
  }

  set head(module: Module) {
    this.child(this.headKey, module);
  }

  /** Builds a new head for `featureDim` inputs, puts it in place of the present one and disposes of that. */
  replaceHead(build: (featureDim: number) => Module): void {
    const former = this.head;
    this.head = build(this.featureDim);
    former.dispose();
  }

  /** The head's output for images `[N, 3, H, W]`: `[N, numClasses]` for a classifier. */
  forward(images: Tensor): Tensor {
    return this.head.forward(this.forwardFeatures(images));
  }
}
