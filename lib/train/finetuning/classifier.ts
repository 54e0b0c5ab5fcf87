import { backboneOf, recogniseCheckpoint, specOf, stripPrefix, type ReadEncoder } from "../../checkpoint/index.js";
import { createModel, encoderFromFile, VisionTransformer, type Encoder } from "../../models/index.js";
import { init, Linear } from "../../nn/index.js";
import * as torch from "../../torch/index.js";
import { Tensor } from "../../torch/index.js";
import { InitialWeightsError } from "../initialWeights.js";
import { ResumeError } from "../runs/resumable.js";
import type { SavedSupervised } from "../runs/supervisedState.js";

export interface ClassifierOptions {
  /** Names of the classes, one for each output. */
  classes: readonly string[];
  /** Name of an architecture; what a checkpoint holds must be of it. Null for whatever it holds. */
  arch: string | null;
  /** Height and width in pixels, or the side of a square. Null: the checkpoint's own; 224 without one, and for ResNets. */
  imageSize: number | readonly [number, number] | null;
  /** Stochastic depth of a ViT. Null: DeiT's 0.1. */
  dropPath: number | null;
}

/** An encoder with a classifier, all of whose parameters are trained. */
export interface Classifier {
  model: Encoder;
  /** What the architecture is called; "custom" for one without a name. */
  arch: string;
  imageSize: readonly [number, number];
  dropPath: number;
  /** What a user should know, in words. */
  notes: readonly string[];
}

/** DeiT's, for a ViT. */
const DROP_PATH = 0.1;

/**
 * Builds the classifier that a fine-tuning trains: the encoder of a checkpoint, or one at its random beginning, and a new linear head with
 * DeiT's initialisation, a normal law of standard deviation 0.02 for the weights and zero for the biases. A ViT's positions are trained too,
 * as DeiT trains them, though MoCo v3's pre-training keeps them fixed.
 *
 * @param from the encoder to begin with; null for random weights of `arch`
 * @throws InitialWeightsError where the checkpoint is of another architecture; ModelConfigError for sizes that do not fit
 */
export function newClassifier(from: ReadEncoder | null, options: ClassifierOptions): Classifier {
  const { arch, imageSize, dropPath } = options;
  if (from !== null && arch !== null && from.spec.arch !== arch) {
    throw new InitialWeightsError(
      `${from.file} holds ${from.spec.arch ?? "an encoder that has no name"}, and ${arch} was asked for; leave the architecture out to train ` +
      "what the file holds, or give another file",
    );
  }
  const isVit = from === null ? arch!.startsWith("vit") : from.spec.sizes.family === "vit";
  const rate = dropPath ?? (isVit ? DROP_PATH : 0);
  const model = from === null
    ? createModel(arch!, { imageSize: imageSize ?? undefined, dropPath: rate, numClasses: 0 })
    : encoderFromFile(from, { imageSize: imageSize ?? undefined, dropPath: rate });
  return { ...withHead(model, { ...options, arch: from === null ? arch! : from.spec.arch ?? "custom", dropPath: rate }), notes: from?.spec.notes ?? [] };
}

/**
 * Builds the classifier that a checkpoint of a training with labels holds, with its weights.
 *
 * @param options.train whether its training goes on, which it cannot for images of another size
 * @param options.average take the moving average of its weights, which the checkpoint must have
 * @throws ResumeError for one without a classifier, or of another number of classes, architecture or image size
 */
export function savedClassifier(saved: SavedSupervised, options: ClassifierOptions & { train: boolean; average?: boolean }): Classifier {
  const { path } = saved;
  const recognised = recogniseCheckpoint(options.average ? { ...saved.value, state_dict: null, model: savedAverage(saved) } : saved.value);
  const backbone = backboneOf(recognised);
  const ofFile = new Set(recognised.state.values());
  try {
    const spec = specOf(recognised, backbone);
    const arch = saved.arch ?? "custom";
    if (options.arch !== null && options.arch !== arch) {
      throw new ResumeError(`${path} is of ${arch}, and ${options.arch} was asked for; leave the architecture out, or give another checkpoint`);
    }
    const isVit = spec.sizes.family === "vit";
    const notes = compareClasses(saved, isVit ? "head" : "fc", options.classes);
    const own = isVit ? spec.imageSize : recordedImageSize(saved);
    const imageSize = options.imageSize ?? own;
    const [height, width] = typeof imageSize === "number" ? [imageSize, imageSize] : imageSize ?? [];
    if (options.train && isVit && own !== null && (own[0] !== height || own[1] !== width)) {
      throw new ResumeError(
        `${path} is of a training at ${own.join("x")} pixels, which cannot go on at ${height}x${width}; leave the image size out, or begin a new ` +
        `one with its encoder: --pretrained ${path}`,
      );
    }
    const dropPath = options.dropPath ?? recordedDropPath(saved) ?? (isVit ? DROP_PATH : 0);
    const model = encoderFromFile({ backbone, spec }, { imageSize: imageSize ?? undefined, dropPath });
    const built = withHead(model, { ...options, arch, imageSize, dropPath });
    loadHead(model, stripPrefix(recognised.state));
    return { ...built, notes };
  } finally {
    for (const tensor of backbone.values()) if (!ofFile.has(tensor)) tensor.dispose();
  }
}

function compareClasses(saved: SavedSupervised, headKey: string, classes: readonly string[]): string[] {
  const outputs = saved.state.get(`${headKey}.weight`);
  if (outputs?.ndim === 2 && outputs.size(0) !== classes.length) {
    throw new ResumeError(
      `the classifier of ${saved.path} has ${outputs.size(0)} classes, and these images have ${classes.length}; give the images that it was ` +
      `trained on, or begin a new classifier with its encoder: --pretrained ${saved.path}`,
    );
  }
  return saved.compareClasses(headKey, classes.length, classes);
}

/** The moving average of the weights in a checkpoint, or null where it has none. */
export function savedAverage({ value }: SavedSupervised): ReadonlyMap<string, Tensor> | null {
  const average = value.model_ema;
  const isState = average instanceof Map && [...(average as Map<unknown, unknown>).values()].every((each) => each instanceof Tensor);
  return isState ? (average as Map<string, Tensor>) : null;
}

/** Gives a classifier the head of a state dict. */
function loadHead(model: Encoder, state: ReadonlyMap<string, Tensor>): void {
  const head = model.head as Linear;
  const bias = state.get(`${model.headKey}.bias`);
  torch.noGrad(() => {
    head.weight.copy_(state.get(`${model.headKey}.weight`)!);
    if (bias) head.bias!.copy_(bias);
    else head.bias!.zero_();
  });
}

function withHead(model: Encoder, options: ClassifierOptions & { arch: string; dropPath: number }): Omit<Classifier, "notes"> {
  const { classes, arch, dropPath, imageSize: wanted } = options;
  model.replaceHead((width) => {
    const head = new Linear(width, classes.length);
    init.truncNormal_(head.weight, 0, 0.02);
    init.zeros_(head.bias!);
    return head;
  });
  model.requiresGrad_();
  const size = model instanceof VisionTransformer ? model.imageSize : wanted ?? 224;
  const imageSize = typeof size === "number" ? [size, size] as const : size;
  return { model, arch, imageSize, dropPath };
}

/** What the run that saved a checkpoint has noted, where it was a fine-tuning of ours. */
function recordedDropPath(saved: SavedSupervised): number | null {
  const rate = saved.facts?.recipe.dropPath;
  return rate === undefined ? null : Number(rate);
}

function recordedImageSize(saved: SavedSupervised): [number, number] | null {
  const size = saved.facts?.recipe.imageSize;
  return Array.isArray(size) && size.length === 2 ? [Number(size[0]), Number(size[1])] : null;
}
