import { createModel, Encoder, VisionTransformer, type CreateModelOptions } from "../models/index.js";
import { Module, type LoadResult } from "../nn/index.js";
import { DeviceScalar } from "../optim/deviceScalar.js";
import * as torch from "../torch/index.js";
import type { Tensor } from "../torch/index.js";
import { contrastiveLoss, singleProcess, type ContrastObserver, type KeyGatherer } from "./contrastiveLoss.js";
import { embedViews, encodeViews, type Views } from "./encodeViews.js";
import { headLayouts, MLPHead } from "./heads.js";
import { updateMomentumParameters } from "./momentumUpdate.js";

/** MoCo was asked for with sizes or an encoder that it cannot use, or was given views that do not belong together. */
export class MoCoError extends Error {
  override readonly name = "MoCoError";
}

export interface MoCoOptions {
  /** Builds an encoder; called twice. Its classifier, of `numClasses` outputs, is replaced by the projector. */
  encoder: (numClasses: number) => Module;
  /** Length of the contrasted features. Default 256. */
  dim?: number;
  /** Hidden width of projector and predictor. Default 4096. */
  mlpDim?: number;
  /** Softmax temperature τ of the contrastive loss. Default 1; the paper's recipes use 0.2 for ViTs and 1 for ResNets. */
  temperature?: number;
  /** Exchanges keys between processes. Default: one process. */
  gatherer?: KeyGatherer;
}

/**
 * MoCo v3 (Chen, Xie and He, 2021): two views of an image should be recognised as such, by a query encoder that learns and a key encoder that
 * follows it slowly.
 *
 * State-dict keys: `base_encoder.*`, `momentum_encoder.*`, `predictor.*`. Give all `parameters()` to the optimiser, the momentum encoder's too:
 * they have no gradient and are left alone, but their places number a saved optimiser state.
 */
export class MoCo extends Module<[x1: Tensor, x2: Tensor, momentum: number]> {
  readonly baseEncoder: Encoder;
  readonly momentumEncoder: Encoder;
  readonly predictor: MLPHead;
  readonly temperature: number;
  /** May be exchanged before training, where processes work together. */
  gatherer: KeyGatherer;
  /** Is shown both contrasts of each loss: see `contrastStatistics`. Null for none. */
  observer: ContrastObserver | null = null;
  readonly #baseParameters: Tensor[];
  readonly #momentumParameters: Tensor[];
  #equalStems: boolean;
  #momentum = 1;
  /** `1 - momentum`, where that lies in device memory. */
  #baseShare: DeviceScalar | null = null;

  constructor({ encoder, dim = 256, mlpDim = 4096, temperature = 1, gatherer = singleProcess }: MoCoOptions) {
    super();
    for (const [name, value] of Object.entries({ dim, mlpDim })) {
      if (!Number.isInteger(value) || value < 1) throw new MoCoError(`${name} is ${value}; it is a width and must be a whole number of at least 1`);
    }
    if (!(temperature > 0)) throw new MoCoError(`temperature is ${temperature} and must be above 0; the paper uses 0.2 for ViTs and 1 for ResNets`);
    this.temperature = temperature;
    this.gatherer = gatherer;
    this.baseEncoder = this.child("base_encoder", requireEncoder(encoder(mlpDim)));
    this.momentumEncoder = this.child("momentum_encoder", requireEncoder(encoder(mlpDim)));

    const layout = headLayouts[this.baseEncoder.headKey];
    for (const each of [this.baseEncoder, this.momentumEncoder]) {
      each.replaceHead(
        (inputDim) => new MLPHead({ layers: layout.projectorLayers, inputDim, hiddenDim: mlpDim, outputDim: dim, lastBatchNorm: true }),
      );
    }
    this.predictor = this.child(
      "predictor",
      new MLPHead({
        layers: layout.predictorLayers,
        inputDim: dim,
        hiddenDim: mlpDim,
        outputDim: dim,
        lastBatchNorm: layout.predictorLastBatchNorm,
      }),
    );
    this.#baseParameters = this.baseEncoder.parameters();
    this.#momentumParameters = this.momentumEncoder.parameters();
    this.#copyBaseToMomentum();
    this.#equalStems = this.#compareStems();
  }

  /**
   * Algorithm 1 of the paper up to the loss; the caller does `loss.backward()` and the optimiser's step.
   *
   * @param x1 first views `[N, 3, H, W]`
   * @param x2 second views of the same images, in the same order
   * @param momentum share of the old momentum encoder, 0 to 1
   * @returns the symmetric loss, a scalar with a graph
   */
  forward(x1: Tensor, x2: Tensor, momentum: number): Tensor {
    const views: Views = [x1, x2];
    this.requireViews(views, momentum);
    this.updateMomentumEncoder(momentum); // towards the base weights as they are before this step
    return this.loss(views);
  }

  /** The symmetric loss with both encoders as they are. */
  loss(views: Views): Tensor {
    return torch.scope(() => {
      const patchTokens = this.sharedPatchTokens(views);
      const queries = this.queries(views, patchTokens); // each [N, dim]
      const keys = this.keys(views, patchTokens); // each [N, dim]
      return this.contrast(queries, keys);
    });
  }

  /** Base encoder, projector and predictor: the two views' queries, each `[N, dim]`. */
  queries(views: Views, patchTokens?: Tensor): [Tensor, Tensor] {
    return torch.scope(() => this.predict(encodeViews(this.baseEncoder, views, patchTokens)));
  }

  /** Momentum encoder and its projector, without gradient: the two views' keys, each `[N, dim]`. */
  keys(views: Views, patchTokens?: Tensor): [Tensor, Tensor] {
    return torch.noGrad(() => torch.scope(() => this.projectKeys(encodeViews(this.momentumEncoder, views, patchTokens))));
  }

  /** Projector and predictor: features `[2N, D]` of both views, the first view's first, to the two views' queries. */
  predict(features: Tensor): [Tensor, Tensor] {
    return torch.scope(() => {
      const projections = (this.baseEncoder.head as MLPHead).forwardViews(features); // [2N, dim]
      return this.predictor.forwardViews(projections).chunk(2, 0) as [Tensor, Tensor];
    });
  }

  /** The momentum encoder's projector: its features `[2N, D]` to the two views' keys. */
  projectKeys(features: Tensor): [Tensor, Tensor] {
    return torch.scope(() => (this.momentumEncoder.head as MLPHead).forwardViews(features).chunk(2, 0) as [Tensor, Tensor]);
  }

  /** The symmetric loss: each view's queries against the other view's keys. */
  contrast([q1, q2]: readonly [Tensor, Tensor], [k1, k2]: readonly [Tensor, Tensor]): Tensor {
    return torch.scope(() => this.#contrast(q1, k2).add(this.#contrast(q2, k1)));
  }

  /** Moves the momentum encoder's parameters, not its BatchNorm statistics, towards the base encoder's. */
  updateMomentumEncoder(momentum: number): void {
    this.setMomentum(momentum);
    this.moveMomentumEncoder();
  }

  /**
   * Keeps the momentum in the memory of the parameters' device from here on, in float32, so that a step that was recorded as a CUDA graph reads
   * the one of its time. Call it once the network is where it is to train.
   */
  keepMomentumOnDevice(): void {
    this.#baseShare ??= new DeviceScalar(1 - this.#momentum, this.#momentumParameters[0]!.device);
  }

  /** The momentum of the next {@link moveMomentumEncoder}. */
  setMomentum(momentum: number): void {
    this.#momentum = momentum;
    this.#baseShare?.set(1 - momentum);
  }

  /** What `updateMomentumEncoder` has the device do, for work that is recorded; {@link setMomentum} comes before, each time that it runs. */
  moveMomentumEncoder(): void {
    updateMomentumParameters(this.#momentumParameters, this.#baseParameters, this.#baseShare?.tensor ?? this.#momentum);
  }

  override dispose(): void {
    super.dispose();
    this.#baseShare?.[Symbol.dispose]();
  }

  override loadStateDict(state: ReadonlyMap<string, Tensor>, options?: { strict?: boolean }): LoadResult {
    const result = super.loadStateDict(state, options);
    this.#equalStems = this.#compareStems();
    return result;
  }

  /**
   * Begins with another network's weights: copies an encoder's tensors, all but its head, into both encoders. The projectors and the predictor
   * stay as they are.
   *
   * @param backbone state dict of an encoder without its head
   * @throws StateDictError when it does not fit
   */
  loadBackbone(backbone: ReadonlyMap<string, Tensor>): void {
    for (const encoder of [this.baseEncoder, this.momentumEncoder]) {
      const head = [...encoder.stateDict()].filter(([key]) => key.startsWith(`${encoder.headKey}.`));
      encoder.loadStateDict(new Map([...backbone, ...head]));
    }
    this.#equalStems = this.#compareStems();
  }

  #contrast(queries: Tensor, keys: Tensor): Tensor {
    return contrastiveLoss(queries, keys, this.temperature, this.gatherer, this.observer);
  }

  /**
   * A frozen patch projection is the same in both encoders, and the momentum update leaves equal parameters equal: its tokens are computed
   * once for both. Checkpoints of upstream, where the two drift apart by roundings, do not qualify; there each encoder computes its own.
   *
   * @returns patch tokens `[2N, patches, D]` of both views, or undefined where each encoder needs its own
   */
  sharedPatchTokens(views: Views): Tensor | undefined {
    const { baseEncoder } = this;
    if (!this.#equalStems || !(baseEncoder instanceof VisionTransformer)) return undefined;
    const frozen = baseEncoder.patchEmbed.parameters().every((parameter) => !parameter.requiresGrad);
    return frozen ? embedViews(baseEncoder, views) : undefined;
  }

  /** Whether the encoders' patch projections have equal weights, and no running statistics that would differ. */
  #compareStems(): boolean {
    const { baseEncoder, momentumEncoder } = this;
    if (!(baseEncoder instanceof VisionTransformer) || !(momentumEncoder instanceof VisionTransformer)) return false;
    if (baseEncoder.patchEmbed.namedBuffers().length > 0) return false;
    const followers = momentumEncoder.patchEmbed.parameters();
    return baseEncoder.patchEmbed.parameters().every((parameter, i) => torch.equal(parameter, followers[i]));
  }

  #copyBaseToMomentum(): void {
    const [base, momentum] = [this.#baseParameters, this.#momentumParameters];
    const same = base.length === momentum.length && base.every((parameter, i) => String(parameter.shape) === String(momentum[i].shape));
    if (!same) throw new MoCoError("the two encoders have different parameters; the encoder function must build the same network each time");
    torch.noGrad(() => momentum.forEach((parameter, i) => parameter.requiresGrad_(false).copy_(base[i])));
  }

  /** @throws MoCoError unless the views belong together and the momentum is one */
  requireViews([x1, x2]: Views, momentum: number): void {
    if (String(x1.shape) !== String(x2.shape)) {
      throw new MoCoError(`the views have shapes [${x1.shape}] and [${x2.shape}]; give two views of the same images, of one size`);
    }
    if (!(momentum >= 0 && momentum <= 1)) throw new MoCoError(`momentum is ${momentum} and must lie between 0 and 1, such as 0.99`);
  }
}

/** Options of {@link createMoCo}: an architecture by name takes the model's own options too. */
export type CreateMoCoOptions = Omit<MoCoOptions, "encoder"> &
  Pick<CreateModelOptions, "imageSize" | "patchSize" | "stopGradConv1"> & { encoder: string | MoCoOptions["encoder"] };

/**
 * Builds MoCo around an encoder, given by the name of its architecture or by a function that builds a `VisionTransformer` or a `ResNet`.
 * A ResNet built by name starts with its residual branches at zero.
 *
 * @throws MoCoError, or what `createModel` throws
 * @example
 * const moco = createMoCo({ encoder: "vit_small", temperature: 0.2, stopGradConv1: true });
 * const loss = moco.forward(x1, x2, 0.99);
 * loss.backward();
 */
export function createMoCo({ encoder, imageSize, patchSize, stopGradConv1, ...options }: CreateMoCoOptions): MoCo {
  const build =
    typeof encoder === "function"
      ? encoder
      : (numClasses: number) => createModel(encoder, { imageSize, patchSize, numClasses, stopGradConv1, zeroInitResidual: true });
  return new MoCo({ ...options, encoder: build });
}

function requireEncoder(module: Module): Encoder {
  if (module instanceof Encoder) return module;
  throw new MoCoError(
    `the encoder function built a ${module.constructor.name}; it must build an Encoder, such as a VisionTransformer or a ResNet`,
  );
}
