import { nearestNames } from "../nearestNames.js";
import type { Encoder } from "./encoder.js";
import { ModelConfigError, requireNoDropPath, type ImageSize } from "./errors.js";
import { ResNet, type ResNetOptions } from "./resnet.js";
import { VisionTransformer, type VisionTransformerOptions } from "./vit.js";

/** What a model built by name may have otherwise than its architecture says. */
export interface CreateModelOptions {
  /** Pixels of a square image, or [height, width]. Default 224. A ResNet takes other images too. */
  imageSize?: number | ImageSize;
  /** Pixels of a patch's side. Default 16. ResNets ignore it; a convolutional stem takes 16 only. */
  patchSize?: number;
  /** Outputs of the classifier; 0 for none. Default 1000. */
  numClasses?: number;
  /** Freeze a plain ViT's patch projection. ResNets and convolutional stems ignore it, as upstream does. */
  stopGradConv1?: boolean;
  /** Start every residual branch of a ResNet at zero, as MoCo's pre-training does. ViTs ignore it. Default false. */
  zeroInitResidual?: boolean;
  /** Stochastic depth of a ViT in training; see `VisionTransformerOptions`. Default 0, and nothing else for a ResNet. */
  dropPath?: number;
}

/** Builds an encoder of an architecture. */
export type ArchitectureBuilder = (options: CreateModelOptions) => Encoder;

function vit(sizes: VisionTransformerOptions): ArchitectureBuilder {
  return ({ imageSize, patchSize, numClasses, stopGradConv1, dropPath }) =>
    new VisionTransformer({ numHeads: 12, mlpRatio: 4, ...sizes, imageSize, patchSize, numClasses, stopGradConv1, dropPath });
}

function resnet(sizes: ResNetOptions): ArchitectureBuilder {
  return ({ imageSize, numClasses, zeroInitResidual, dropPath }) => {
    requireNoDropPath(dropPath);
    return new ResNet({ ...sizes, imageSize, numClasses, zeroInitResidual });
  };
}

// The ViT sizes are those of the MoCo v3 paper, table 1; the convolutional stem stands for one block.
const builders = {
  vit_small: vit({ embedDim: 384, depth: 12 }),
  vit_base: vit({ embedDim: 768, depth: 12 }),
  vit_conv_small: vit({ embedDim: 384, depth: 11, stem: "conv" }),
  vit_conv_base: vit({ embedDim: 768, depth: 11, stem: "conv" }),
  resnet18: resnet({ block: "basic", layers: [2, 2, 2, 2] }),
  resnet34: resnet({ block: "basic", layers: [3, 4, 6, 3] }),
  resnet50: resnet({ block: "bottleneck", layers: [3, 4, 6, 3] }),
  resnet101: resnet({ block: "bottleneck", layers: [3, 4, 23, 3] }),
  resnet152: resnet({ block: "bottleneck", layers: [3, 8, 36, 3] }),
  resnext50_32x4d: resnet({ block: "bottleneck", layers: [3, 4, 6, 3], groups: 32, widthPerGroup: 4 }),
  resnext101_32x8d: resnet({ block: "bottleneck", layers: [3, 4, 23, 3], groups: 32, widthPerGroup: 8 }),
  wide_resnet50_2: resnet({ block: "bottleneck", layers: [3, 4, 6, 3], widthPerGroup: 128 }),
  wide_resnet101_2: resnet({ block: "bottleneck", layers: [3, 4, 23, 3], widthPerGroup: 128 }),
} satisfies Record<string, ArchitectureBuilder>;

/** Name of an architecture that `createModel` knows. */
export type Architecture = keyof typeof builders;

/** Names of all architectures that `createModel` knows. */
export const architectures = Object.keys(builders) as Architecture[];

/** Whether {@link createModel} knows this name. */
export function isArchitecture(name: string): name is Architecture {
  return Object.hasOwn(builders, name);
}

/**
 * Makes an architecture of your own known by a name, as timm's `register_model` does: to `createModel`, and so to every command of this
 * process.
 *
 * @throws ModelConfigError for a name that is taken
 * @example
 * registerArchitecture("vit_tiny", (options) => new VisionTransformer({ embedDim: 192, depth: 12, numHeads: 3, ...options }));
 */
export function registerArchitecture(name: string, build: ArchitectureBuilder): void {
  if (isArchitecture(name)) throw new ModelConfigError(`the architecture ${name} is there already; give yours another name`);
  Object.assign(builders, { [name]: build });
  architectures.push(name as Architecture);
}

/** `createModel` was given a name that it does not know. */
export class UnknownArchitectureError extends Error {
  override readonly name = "UnknownArchitectureError";

  constructor(readonly architecture: string) {
    super(
      `Unknown architecture "${architecture}". Did you mean ${nearestNames(architecture, architectures, 2).join(" or ")}? ` +
        `Known: ${architectures.join(", ")}.`,
    );
  }
}

/**
 * Builds an encoder by the name that upstream and torchvision give it.
 *
 * @throws UnknownArchitectureError with the nearest names; ModelConfigError for sizes that do not fit.
 * @example createModel("vit_small", { numClasses: 0 }).forward(images) // [N, 384]
 */
export function createModel(architecture: string, options: CreateModelOptions = {}): Encoder {
  if (!isArchitecture(architecture)) throw new UnknownArchitectureError(architecture);
  return builders[architecture](options);
}
