import { ConvertError } from "./convertError.js";
import { sizeOf } from "./fields.js";
import type { EncoderSpec } from "./encoderSpec.js";
import { IMAGENET_MEAN, IMAGENET_STD } from "./inputNormalization.js";
import type { RecognisedCheckpoint } from "./recognise.js";

const BILINEAR = 2;

/**
 * config.json for the encoder, as transformers writes it.
 *
 * @throws ConvertError for what transformers' ViT and ResNet cannot be
 */
export function huggingfaceConfig({ sizes, numHeads, imageSize, normEps }: EncoderSpec, dtype: string): Record<string, unknown> {
  if (sizes.family === "vit") {
    const { width, depth, patchSize, mlpRatio } = sizes;
    const [height, breadth] = imageSize!;
    return {
      architectures: ["ViTModel"],
      attention_probs_dropout_prob: 0,
      hidden_act: "gelu",
      hidden_dropout_prob: 0,
      hidden_size: width,
      image_size: height === breadth ? height : [height, breadth],
      intermediate_size: Math.round(width * mlpRatio),
      layer_norm_eps: normEps,
      model_type: "vit",
      num_attention_heads: numHeads,
      num_channels: 3,
      num_hidden_layers: depth,
      patch_size: patchSize,
      qkv_bias: true,
      torch_dtype: dtype,
    };
  }
  const { width, block, layers, groups, widthPerGroup } = sizes;
  if (groups !== 1 || widthPerGroup !== 64) {
    throw new ConvertError("transformers has no ResNeXt and no wide ResNet; convert to timm or torchvision instead");
  }
  return {
    architectures: ["ResNetModel"],
    depths: layers,
    downsample_in_bottleneck: false,
    downsample_in_first_stage: false,
    embedding_size: width,
    hidden_act: "relu",
    hidden_sizes: [1, 2, 4, 8].map((factor) => factor * width * (block === "bottleneck" ? 4 : 1)),
    layer_type: block,
    model_type: "resnet",
    num_channels: 3,
    torch_dtype: dtype,
  };
}

/** preprocessor_config.json: images resized and normalised as in evaluation here. */
export function preprocessorConfig({ imageSize }: EncoderSpec): Record<string, unknown> {
  const [height, width] = imageSize ?? [224, 224];
  const normalised = {
    do_normalize: true, do_rescale: true, do_resize: true, image_mean: IMAGENET_MEAN, image_std: IMAGENET_STD, resample: BILINEAR,
    rescale_factor: 1 / 255,
  };
  // That of ConvNext is the one that resizes the shorter side to 8/7 of the size and takes the centre; it knows squares only.
  return height === width
    ? { image_processor_type: "ConvNextImageProcessor", crop_pct: 0.875, size: { shortest_edge: height }, ...normalised }
    : { image_processor_type: "ViTImageProcessor", size: { height, width }, ...normalised };
}

/**
 * Checks that config.json describes a model whose function ours can be.
 *
 * @throws ConvertError that names the entry, its value and what is needed
 */
export function checkHuggingfaceConfig(config: Record<string, unknown>, recognised: RecognisedCheckpoint): void {
  const require = (name: string, fits: boolean, needed: string): void => {
    if (name in config && !fits) throw new ConvertError(`config.json has ${name} = ${shown(config[name])}; needed is ${needed}`);
  };
  const same = (name: string, value: unknown): void => {
    require(name, shown(config[name]) === shown(value), `${shown(value)}, which the tensors have`);
  };
  const { family, width, depth, patchSize, mlpRatio } = recognised;
  require("num_channels", config.num_channels === 3, "3, images in colour");
  if (family === "vit") {
    require("model_type", config.model_type === "vit" || config.model_type === "vit_mae", '"vit"');
    require("hidden_act", config.hidden_act === "gelu", '"gelu"');
    require("qkv_bias", config.qkv_bias === true, "true");
    same("hidden_size", width);
    same("num_hidden_layers", depth);
    same("patch_size", patchSize);
    same("intermediate_size", Math.round((width ?? 0) * (mlpRatio ?? 0)));
    const heads = config.num_attention_heads;
    const divides = Number.isSafeInteger(heads) && (heads as number) > 0 && (width ?? 0) % (heads as number) === 0;
    require("num_attention_heads", divides, `a divisor of ${width}`);
    const eps = config.layer_norm_eps;
    require("layer_norm_eps", typeof eps === "number" && eps > 0 && eps < 1, "a number between 0 and 1");
    const size = recognised.imageSize;
    const fits = size !== null && shown(sizeOf(config.image_size)) === shown(size);
    require("image_size", fits, "the size that the positions stand for");
  } else if (family === "resnet") {
    require("model_type", config.model_type === "resnet", '"resnet"');
    require("hidden_act", config.hidden_act === "relu", '"relu"');
    require("downsample_in_bottleneck", config.downsample_in_bottleneck === false, "false: the 3x3 convolution has the stride");
    require("downsample_in_first_stage", config.downsample_in_first_stage === false, "false: the first stage has stride 1");
    same("embedding_size", width);
  }
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? String(value)).slice(0, 100);
}
