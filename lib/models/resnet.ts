import { BatchNorm2d, Identity, Linear, MaxPool2d, Sequential, type Conv2d, type Module } from "../nn/index.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { Encoder } from "./encoder.js";
import { ModelConfigError, requireInteger, type ImageSize } from "./errors.js";
import { BasicBlock, Bottleneck, convolution } from "./residualBlock.js";

/** Blocks, widths and classifier of a {@link ResNet}. */
export interface ResNetOptions {
  /** Two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times the channels outside. */
  block: "basic" | "bottleneck";
  /** Number of blocks in each of the four stages. */
  layers: readonly number[];
  /** Channels of the first stage; all other counts grow and shrink with it. Default 64. */
  width?: number;
  /** Groups of the 3x3 convolutions in bottleneck blocks (ResNeXt). Default 1. */
  groups?: number;
  /** Channels of a group in the first stage at width 64 (ResNeXt, wide ResNet). Default 64. */
  widthPerGroup?: number;
  /** Outputs of the classifier; 0 for none. Default 1000. */
  numClasses?: number;
  /** Pixels of a square image, or [height, width], that it is evaluated on; it takes others too. Default 224. */
  imageSize?: number | ImageSize;
  /** Start every residual branch at zero, as MoCo's pre-training does. Default false. */
  zeroInitResidual?: boolean;
}

/**
 * Residual network (He et al., 2016; in bottleneck blocks the 3x3 convolution has the stride), with torchvision's keys and initialisation.
 * Takes images of any size from 32 pixels.
 *
 * @throws ModelConfigError for sizes that do not fit each other.
 * @example new ResNet({ block: "bottleneck", layers: [3, 4, 6, 3] }).forward(images) // ResNet-50: [N, 1000]
 */
export class ResNet extends Encoder {
  readonly headKey = "fc";
  readonly featureDim: number;
  readonly imageSize: ImageSize;
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly maxpool = new MaxPool2d(3, { stride: 2, padding: 1 });
  readonly stages: readonly Sequential[];

  constructor(options: ResNetOptions) {
    super();
    const { block, layers, width = 64, groups = 1, widthPerGroup = 64, numClasses = 1000, zeroInitResidual = false } = options;
    const { imageSize = 224 } = options;
    this.imageSize = typeof imageSize === "number" ? [imageSize, imageSize] : imageSize;
    this.imageSize.forEach((pixels) => requireInteger("imageSize", pixels));
    if (layers.length !== 4) throw new ModelConfigError(`layers is [${layers}]: give four numbers of blocks, such as [2, 2, 2, 2].`);
    layers.forEach((count) => requireInteger("layers", count));
    for (const [name, value] of Object.entries({ width, groups, widthPerGroup })) requireInteger(name, value);
    requireInteger("numClasses", numClasses, 0);
    if (block === "basic" && (groups !== 1 || widthPerGroup !== 64)) {
      throw new ModelConfigError(
        `groups ${groups} and widthPerGroup ${widthPerGroup}: basic blocks have neither. Leave them out, or use block: "bottleneck".`,
      );
    }
    if (block === "bottleneck" && width * widthPerGroup < 64) {
      throw new ModelConfigError(
        `A bottleneck of width ${width} and widthPerGroup ${widthPerGroup} has no channel: their product must be at least 64.`,
      );
    }
    const kind = block === "basic" ? BasicBlock : Bottleneck;
    this.conv1 = this.child("conv1", convolution(3, width, 7, 2));
    this.bn1 = this.child("bn1", new BatchNorm2d(width));
    let channels = width;
    this.stages = layers.map((count, stage) => {
      const planes = width * 2 ** stage;
      const blocks = Array.from({ length: count }, (_, i) => {
        const stride = i === 0 && stage > 0 ? 2 : 1;
        const built = new kind({ inChannels: channels, planes, stride, groups, widthPerGroup, zeroInitResidual });
        channels = planes * kind.expansion;
        return built;
      });
      return this.child(`layer${stage + 1}`, new Sequential<Module>(...blocks));
    });
    this.featureDim = channels;
    this.head = numClasses > 0 ? new Linear(channels, numClasses) : new Identity();
  }

  /** The classifier, under torchvision's name for it. Same as `head`. */
  get fc(): Module {
    return this.head;
  }

  set fc(module: Module) {
    this.head = module;
  }

  /** Spatial means `[N, featureDim]` of the last stage for images `[N, 3, H, W]`. */
  forwardFeatures(images: Tensor): Tensor {
    return torch.scope(() => {
      // Channels last throughout: about 10 % less time and memory than channels first on a CPU.
      let x = images.contiguous({ memoryFormat: "channels_last" });
      x = torch.relu_(this.bn1.forward(this.conv1.forward(x))); // [N, width, H/2, W/2]
      x = this.maxpool.forward(x); // [N, width, H/4, W/4]
      for (const stage of this.stages) x = stage.forward(x); // halved three times: [N, featureDim, H/32, W/32]
      return torch.adaptiveAvgPool2d(x, [1, 1]).flatten(1);
    });
  }
}
