import { BatchNorm2d, Conv2d, init, Module, Sequential } from "../nn/index.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";

export interface ResidualBlockOptions {
  inChannels: number;
  /** Channels of the block before expansion. */
  planes: number;
  stride: number;
  groups: number;
  widthPerGroup: number;
  zeroInitResidual: boolean;
}

/** A convolution without bias whose padding keeps the size at stride 1, with torchvision's initialisation for ResNets. */
export function convolution(inChannels: number, outChannels: number, kernelSize: number, stride = 1, groups = 1): Conv2d {
  const padding = (kernelSize - 1) / 2;
  const layer = new Conv2d(inChannels, outChannels, kernelSize, { stride, padding, groups, bias: false, channelsLast: true });
  init.kaimingNormal_(layer.weight, { mode: "fanOut" });
  return layer;
}

/** Brings the block's input to its output's shape, where they differ. */
function downsampling(inChannels: number, outChannels: number, stride: number): Sequential | null {
  if (stride === 1 && inChannels === outChannels) return null;
  return new Sequential<Module>(convolution(inChannels, outChannels, 1, stride), new BatchNorm2d(outChannels));
}

// ReLU and the residual sum overwrite the output of the batch normalisation before them, whose backward pass needs only its input.

/** Two 3x3 convolutions and a shortcut: ResNet-18 and -34. */
export class BasicBlock extends Module {
  static readonly expansion = 1;
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly conv2: Conv2d;
  readonly bn2: BatchNorm2d;
  readonly downsample: Sequential | null;

  constructor({ inChannels, planes, stride, zeroInitResidual }: ResidualBlockOptions) {
    super();
    this.conv1 = this.child("conv1", convolution(inChannels, planes, 3, stride));
    this.bn1 = this.child("bn1", new BatchNorm2d(planes));
    this.conv2 = this.child("conv2", convolution(planes, planes, 3));
    this.bn2 = this.child("bn2", new BatchNorm2d(planes));
    const shortcut = downsampling(inChannels, planes, stride);
    this.downsample = shortcut && this.child("downsample", shortcut);
    if (zeroInitResidual && this.bn2.weight) init.zeros_(this.bn2.weight);
  }

  forward(x: Tensor): Tensor {
    let out = torch.relu_(this.bn1.forward(this.conv1.forward(x)));
    out = this.bn2.forward(this.conv2.forward(out));
    return torch.relu_(out.add_(this.downsample?.forward(x) ?? x));
  }
}

/** 1x1, 3x3 and 1x1 convolutions and a shortcut: ResNet-50 and deeper, ResNeXt, wide ResNet. */
export class Bottleneck extends Module {
  static readonly expansion = 4;
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly conv2: Conv2d;
  readonly bn2: BatchNorm2d;
  readonly conv3: Conv2d;
  readonly bn3: BatchNorm2d;
  readonly downsample: Sequential | null;

  constructor({ inChannels, planes, stride, groups, widthPerGroup, zeroInitResidual }: ResidualBlockOptions) {
    super();
    const width = Math.floor((planes * widthPerGroup) / 64) * groups;
    const outChannels = planes * Bottleneck.expansion;
    this.conv1 = this.child("conv1", convolution(inChannels, width, 1));
    this.bn1 = this.child("bn1", new BatchNorm2d(width));
    this.conv2 = this.child("conv2", convolution(width, width, 3, stride, groups));
    this.bn2 = this.child("bn2", new BatchNorm2d(width));
    this.conv3 = this.child("conv3", convolution(width, outChannels, 1));
    this.bn3 = this.child("bn3", new BatchNorm2d(outChannels));
    const shortcut = downsampling(inChannels, outChannels, stride);
    this.downsample = shortcut && this.child("downsample", shortcut);
    if (zeroInitResidual && this.bn3.weight) init.zeros_(this.bn3.weight);
  }

  forward(x: Tensor): Tensor {
    let out = torch.relu_(this.bn1.forward(this.conv1.forward(x)));
    out = torch.relu_(this.bn2.forward(this.conv2.forward(out)));
    out = this.bn3.forward(this.conv3.forward(out));
    return torch.relu_(out.add_(this.downsample?.forward(x) ?? x));
  }
}
