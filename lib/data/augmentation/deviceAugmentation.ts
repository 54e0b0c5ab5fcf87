import { currentStream, empty, fromTypedArray, noGrad, scope, tensor, type Tensor } from "../../torch/index.js";
import {
  adjustBrightness, adjustContrast, adjustSaturation, blur, flip, makeConstants, normalize, shiftHue, solarize, toGrayscale,
  type Constants,
} from "./deviceKernels.js";
import { planSteps, type DeviceStep, type PixelParameters } from "./devicePlan.js";
import { DataOptionError } from "../errors.js";
import { imageNetNormalization, type Normalization } from "../imagePool.js";

/** Where and in which size a {@link DeviceAugmentation} makes views. */
export interface DeviceAugmentationOptions {
  /** Default: ImageNet's. */
  normalization?: Normalization;
  /** Values (3 H W per image) that are worked on at once, which bounds the memory: about 40 bytes each, 70 for a blur beyond sigma 2.4. */
  valuesAtOnce?: number;
}

/** On the CPU they should fit its caches; other devices want much work per launch. */
const defaultValuesAtOnce = (device: string): number => (device === "cpu" ? 2 ** 20 : 2 ** 26);

/**
 * Colour jitter, grayscale, blur, solarize, flip and normalisation of whole batches on a device: what remains for the CPU is to decode,
 * crop and resize.
 *
 * Each image has parameters of its own, the very ones that the CPU path draws, so the distributions are the same. So are the values: the
 * kernels round where PIL rounds. Run on the CPU, they gave the CPU path's bits in all of 2,048 views of photographs at 224 pixels with the
 * recipe's parameters (308 million values), and for the hue of all 2^24 colours. Each operator rounds once, as IEEE 754 says, so that CUDA
 * gives the same bits: `test/gpu` compares them where there is a GPU, and on an H200 they agreed.
 *
 * @example
 * using augmentation = new DeviceAugmentation("cuda");
 * const view = augmentation.apply(crops, parameters); // float32 [N, 3, 224, 224]
 */
export class DeviceAugmentation {
  /** With its index, as tensors name theirs. */
  readonly device: string;
  readonly #valuesAtOnce: number;
  readonly #constants: Constants;
  readonly #mean: Tensor;
  readonly #std: Tensor;

  /**
   * @throws {DeviceUnavailableError} where libtorch has no such device
   * @throws {DataOptionError} for an option outside its range
   */
  constructor(device: string, options: DeviceAugmentationOptions = {}) {
    const { normalization = imageNetNormalization } = options;
    this.device = currentStream(device).device;
    this.#valuesAtOnce = options.valuesAtOnce ?? defaultValuesAtOnce(this.device);
    if (!(this.#valuesAtOnce >= 1)) throw new DataOptionError(`valuesAtOnce is ${this.#valuesAtOnce}; give a number from 1`);
    this.#constants = makeConstants(this.device);
    this.#mean = tensor(Float32Array.from(normalization.mean), [3, 1, 1], { device: this.device });
    this.#std = tensor(Float32Array.from(normalization.std), [3, 1, 1], { device: this.device });
  }

  /**
   * Runs on the device's current stream, without waiting for it.
   *
   * @param crops uint8 [N, 3, H, W] on the device, contiguous or not; left as they are
   * @param parameters one for each crop
   * @returns float32 [N, 3, H, W], normalised; the caller disposes of it
   * @throws {DataOptionError} for crops of another type, place or number, or parameters that make no sense
   */
  apply(crops: Tensor, parameters: readonly PixelParameters[]): Tensor {
    const { shape, dtype, device } = crops;
    const [count = 0, channels, height = 0, width = 0] = shape;
    if (dtype !== "uint8" || shape.length !== 4 || channels !== 3 || height * width === 0) {
      throw new DataOptionError(`the crops are ${dtype}[${shape.join(", ")}]; give uint8 [N, 3, H, W] with at least one pixel each`);
    }
    if (device !== this.device) {
      throw new DataOptionError(`the crops are on ${device}; move them to ${this.device}, the augmentation's device`);
    }
    if (parameters.length !== count) {
      throw new DataOptionError(`${parameters.length} parameters for ${count} crops; give one for each`);
    }
    const rowsAtOnce = Math.max(1, Math.floor(this.#valuesAtOnce / (3 * height * width)));
    return noGrad(() => scope(() => {
      const output = empty([count, 3, height, width], { dtype: "float32", device: this.device });
      for (let start = 0; start < count; start += rowsAtOnce) {
        const rows = Math.min(rowsAtOnce, count - start);
        this.#augment(crops.narrow(0, start, rows), parameters.slice(start, start + rows), output.narrow(0, start, rows));
      }
      return output;
    }));
  }

  #augment(crops: Tensor, parameters: readonly PixelParameters[], output: Tensor): void {
    scope(() => {
      const pixels = crops.clone({ memoryFormat: "contiguous_format" });
      const steps = planSteps(parameters);
      const uploaded = this.#upload(steps.flatMap(({ rows, values }) => [...rows, ...values.flat()]));
      let at = 0;
      for (const step of steps) {
        const count = step.rows.length;
        scope(() => {
          const rows = uploaded.narrow(0, at, count).to("int64");
          const values = step.values.map((_, i) => uploaded.narrow(0, at + (1 + i) * count, count).view([count, 1, 1, 1]));
          pixels.indexCopy_(0, rows, this.#run(step, pixels.indexSelect(0, rows), values));
        });
        at += (1 + step.values.length) * count;
      }
      normalize(pixels, this.#mean, this.#std, output, this.#constants);
    });
  }

  #run({ operation, radius }: DeviceStep, pixels: Tensor, values: readonly Tensor[]): Tensor {
    const value = values[0]!;
    switch (operation) {
      case "brightness": return adjustBrightness(pixels, value);
      case "contrast": return adjustContrast(pixels, value);
      case "saturation": return adjustSaturation(pixels, value);
      case "hue": return shiftHue(pixels, value, this.#constants);
      case "grayscale": return toGrayscale(pixels);
      case "blur": {
        const [inner, edge, bias] = values.map((each) => each.to("int32"));
        return blur(pixels, radius, inner!, edge!, bias!);
      }
      case "solarize": return solarize(pixels, value.to("int16"));
      case "flip": return flip(pixels);
    }
  }

  /** All rows and values as one float32 tensor: whole numbers among them have at most 24 bits. */
  #upload(numbers: readonly number[]): Tensor {
    const values = Float32Array.from(numbers);
    if (this.device === "cpu") return fromTypedArray(values);
    // Pinned, so that the copy neither waits for the stream nor holds the JavaScript thread; libtorch keeps the memory until it is done.
    const pinned = empty([values.length], { dtype: "float32", pinMemory: true });
    return pinned.copy_(fromTypedArray(values)).to({ device: this.device, nonBlocking: true });
  }

  /** Frees what the kernels keep on the device. Calling it again does nothing. */
  dispose(): void {
    for (const each of [...Object.values(this.#constants) as Tensor[], this.#mean, this.#std]) each.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
