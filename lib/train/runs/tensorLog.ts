import { imageNetNormalization } from "../../data/index.js";
import type { Encoder } from "../../models/index.js";
import type { Module } from "../../nn/index.js";
import type { Loggers, LogPlace } from "../../report/index.js";
import type { RgbPixels } from "../../report/viewGrid.js";
import * as torch from "../../torch/index.js";
import type { Tensor } from "../../torch/index.js";
import type { Logging } from "./logging.js";
import { tensorHistogram } from "./tensorHistogram.js";

/** Images of a batch that are shown. */
const SHOWN = 8;
/** Images of a batch whose features are counted. */
const COUNTED = 8;

/** What of a training is looked at. */
export interface LoggedTensors {
  network: Module<never>;
  /** Whose features of the first view are counted. */
  encoder?: Encoder;
  stepsPerEpoch: number;
}

/**
 * Pictures of a batch and histograms of weights and features, for loggers that take them. It draws no random number and changes nothing, and
 * does no work where nobody listens.
 */
export class TensorLog {
  #drawing: Promise<void> = Promise.resolve();
  #off = false;

  constructor(
    private readonly loggers: Loggers, private readonly logging: Logging, private readonly of: LoggedTensors, private readonly warn: (message: string) => void,
  ) {}

  /**
   * Never throws: what fails here, such as a GPU without memory for it, is warned of once.
   *
   * @param views of the step's batch: `[N, 3, H, W]` each, normalised, or as bytes
   */
  afterStep({ step, epoch, stepInEpoch }: LogPlace & { stepInEpoch: number }, views: readonly Tensor[]): void {
    if (this.#off) return;
    const { imagesEvery, histogramsEvery } = this.logging;
    const place = { step, epoch };
    try {
      if (stepInEpoch === 0 && isDue(epoch, imagesEvery) && views.length > 0 && this.loggers.takeImages) this.#show(views, place);
      if (stepInEpoch === this.of.stepsPerEpoch - 1 && isDue(epoch, histogramsEvery) && this.loggers.takeHistograms) this.#count(views, place);
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  /** Waits for pictures that are being drawn. Never throws. */
  async close(): Promise<void> {
    await this.#drawing;
  }

  #show(views: readonly Tensor[], place: LogPlace): void {
    const pictures = views.map(pixelsOf);
    this.#drawing = this.#drawing.then(async () => {
      const { viewGrid } = await import("../../report/viewGrid.js");
      this.loggers.images(views.length > 1 ? "train/views" : "train/images", await viewGrid(pictures), place);
    }).catch((error: Error) => this.#fail(error));
  }

  #fail({ message }: Error): void {
    if (!this.#off) this.warn(`there are no more pictures and histograms in the logs; the training goes on without them: ${message}`);
    this.#off = true;
  }

  #count([view]: readonly Tensor[], place: LogPlace): void {
    const { network, encoder } = this.of;
    const trained = (network as Module).namedParameters().filter(([, { requiresGrad }]) => requiresGrad);
    for (const [name, weight] of trained) this.#tell(`weights/${name}`, weight, place);
    if (encoder === undefined || view === undefined || view.dtype === "uint8") return;
    const { training } = encoder;
    encoder.eval();
    try {
      torch.noGrad(() => torch.scope(() => {
        const [weight] = encoder.parameters() as [Tensor];
        const images = view.narrow(0, 0, Math.min(COUNTED, view.shape[0]!)).to(weight.device).to(weight.dtype);
        this.#tell("features/encoder", encoder.forwardFeatures(images), place);
      }));
    } finally {
      encoder.train(training);
    }
  }

  #tell(tag: string, tensor: Tensor, place: LogPlace): void {
    const histogram = tensorHistogram(tensor);
    if (histogram !== null) this.loggers.histogram(tag, histogram, place);
  }
}

function isDue(epoch: number, every: number): boolean {
  return every > 0 && epoch % every === 0;
}

/** The first images of a view as pictures. */
function pixelsOf(view: Tensor): RgbPixels[] {
  return torch.noGrad(() => torch.scope(() => {
    const [, , height, width] = view.shape as [number, number, number, number];
    const some = view.detach().narrow(0, 0, Math.min(SHOWN, view.shape[0]!)).to("cpu");
    const data = (some.dtype === "uint8" ? some : bytesOf(some)).permute([0, 2, 3, 1]).contiguous().data() as Uint8Array;
    return Array.from({ length: some.shape[0]! }, (_, i) => ({ data: data.slice(3 * height * width * i, 3 * height * width * (i + 1)), width, height }));
  }));
}

function bytesOf(normalised: Tensor): Tensor {
  const [mean, std] = [imageNetNormalization.mean, imageNetNormalization.std].map((each) => torch.tensor(Float32Array.from(each), [3, 1, 1]));
  return normalised.to("float32").mul(std!).add_(mean!).mul_(255).round_().clamp_(0, 255).to("uint8");
}
