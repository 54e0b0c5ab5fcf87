/**
 * The operations of the two views on batches of pixels, as a few operators of libtorch each, whatever the number of images.
 *
 * They follow native/image to the last bit: PIL rounds to 8 bits after every operation, and so does this. Each rounding happens in an
 * operator of its own, as a device's compiler may not fuse what stands in two of them: `addcmul`, which may become one fused
 * multiplication and addition, is used on whole numbers only. Divisors are tensors on the device, because a division by a plain number
 * becomes a multiplication by its inverse on CUDA.
 *
 * Pixels are uint8 [n, 3, H, W]; a value per image is a tensor [n, 1, 1, 1], float32 unless it says otherwise.
 */
import { bitwiseRightShift_, cat, clamp, floorDivide_, maximum, remainder_, tensor, where, type Tensor } from "../../torch/index.js";

/** What the kernels need on their device besides pixels and values. */
export interface Constants {
  /** 0, 2, 4, 6 and 255, float32 without dimensions. */
  readonly zero: Tensor;
  readonly two: Tensor;
  readonly four: Tensor;
  readonly six: Tensor;
  readonly full: Tensor;
  /** [3, 256]: minus the share of the saturation that a channel loses at an 8-bit hue. */
  readonly slopes: Tensor;
}

/** Constants on a device, to be disposed of one by one. */
export function makeConstants(device: string): Constants {
  const scalar = (value: number): Tensor => tensor(Float32Array.of(value), [], { device });
  return {
    zero: scalar(0), two: scalar(2), four: scalar(4), six: scalar(6), full: scalar(255),
    slopes: tensor(hueSlopes(), [3, 256], { device }),
  };
}

/** ImageEnhance's Brightness: a blend with black. */
export function adjustBrightness(pixels: Tensor, factor: Tensor): Tensor {
  return bytes(pixels.mul(factor));
}

/** ImageEnhance's Contrast: a blend with the mean of the gray image, rounded. */
export function adjustContrast(pixels: Tensor, factor: Tensor): Tensor {
  const values = pixels.to("float32");
  const area = pixels.size(2) * pixels.size(3);
  // floor(sum / area + 1/2) in whole numbers.
  const sum = luma(values).sum([1, 2, 3], true, { dtype: "int64" });
  return blend(floorDivide_(sum.mul_(2).add_(area), 2 * area).to("float32"), values, factor);
}

/** ImageEnhance's Color: a blend with the gray image. */
export function adjustSaturation(pixels: Tensor, factor: Tensor): Tensor {
  const values = pixels.to("float32");
  return blend(luma(values), values, factor);
}

/** PIL's luma in all channels. */
export function toGrayscale(pixels: Tensor): Tensor {
  return luma(pixels.to("float32")).to("uint8").expandAs(pixels);
}

/** ITU-R 601 luma in 16-bit fixed point, as a whole number: every product and sum has at most 24 bits, so float32 is exact. */
function luma(values: Tensor): Tensor {
  const [red, green, blue] = channels(values);
  return red.mul(19595 / 65536).add_(green, { alpha: 38470 / 65536 }).add_(blue, { alpha: 7471 / 65536 }).add_(0.5).floor_();
}

/** PIL's blend, which overwrites `values`: degenerate + factor (value - degenerate), truncated. */
function blend(degenerate: Tensor, values: Tensor, factor: Tensor): Tensor {
  return bytes(values.sub_(degenerate).mul_(factor).add_(degenerate));
}

/** Clipped and truncated. */
function bytes(values: Tensor): Tensor {
  return values.clamp_(0, 255).to("uint8");
}

function channels(pixels: Tensor): [Tensor, Tensor, Tensor] {
  return [pixels.narrow(1, 0, 1), pixels.narrow(1, 1, 1), pixels.narrow(1, 2, 1)];
}

/**
 * Turns the 8-bit hue of PIL's HSV.
 *
 * @param shift steps of 1/255 turn, whole numbers; taken modulo 256
 */
export function shiftHue(pixels: Tensor, shift: Tensor, { zero, two, four, six, full, slopes }: Constants): Tensor {
  const [red, green, blue] = channels(pixels);
  const high = pixels.amax([1], true);
  const isRed = red.eq(high);
  const isGreen = green.eq(high);
  // The other two channels, in the order of the colour circle; red wins ties for the highest, then green.
  const next = where(isRed, green, where(isGreen, blue, red));
  const last = where(isRed, blue, where(isGreen, red, green));
  const value = high.to("float32");
  const chroma = value.sub(pixels.amin([1], true));

  // In sixths of a turn: the highest channel's place, and from there towards one neighbour or the other.
  const sign = last.le(next).to("float32").mul_(2).sub_(1);
  const offset = where(isRed, zero, where(isGreen, two, four)).add_(sign);
  const fraction = value.sub(maximum(next, last)).div_(clamp(chroma, 1)).mul_(sign);
  const sixths = offset.sub_(fraction);
  const hue = sixths.div(six).add_(sixths.lt(0)).mul_(255).floor_();
  const turned = remainder_(hue.add_(shift), 256).to("int32");
  const saturation = chroma.div_(clamp(value, 1)).mul_(255).floor_().div_(full);

  // Channels first: [3, n H W].
  const lost = slopes.indexSelect(1, turned.flatten()).mul_(saturation.flatten());
  const shifted = lost.add_(1).mul_(value.flatten()).add_(0.5).to("uint8");
  return shifted.view([3, pixels.size(0), pixels.size(2), pixels.size(3)]).transpose(0, 1);
}

/** In each sixth of a turn one channel is highest, one lowest, and one on the ramp between them. */
function hueSlopes(): Float32Array {
  const table = new Float32Array(3 * 256);
  for (let hue = 0; hue < 256; hue++) {
    const sector = Math.floor((hue * 6) / 255) % 6;
    const within = Math.fround(((hue * 6) % 255) / 255);
    const ramp = sector % 2 === 1 ? within : Math.fround(1 - within);
    const [red, green, blue] = [[0, ramp, 1], [ramp, 0, 1], [1, 0, ramp], [1, ramp, 0], [ramp, 1, 0], [0, 1, ramp]][sector]!;
    table.set([-red!], hue);
    table.set([-green!], 256 + hue);
    table.set([-blue!], 512 + hue);
  }
  return table;
}

/** One box of PIL's blur: 2 radius + 1 pixels with the weight `inner` and one more on either side with `edge`, in 24-bit fixed point. */
export interface BlurBox {
  radius: number;
  inner: number;
  edge: number;
  /** Rounds the sum of weights times (pixel - 128). */
  bias: number;
}

/** The box whose threefold application has the variance sigma² (Gwosdek et al., SSVM 2011), in the precision that decides its last bit. */
export function blurBox(sigma: number): BlurBox {
  const f = Math.fround;
  const variance = f(f(f(sigma) * f(sigma)) / 3);
  const length = f(Math.sqrt(12 * variance + 1));
  const whole = f(Math.floor((length - 1) / 2));
  const above = f(f(whole + 1) * f(whole + 1));
  const part = f(f(f(2 * whole + 1) * f(f(whole * f(whole + 1)) - f(3 * variance))) / f(6 * f(variance - above)));
  const exact = f(whole + part);
  const radius = Math.trunc(exact);
  const inner = Math.trunc(f(2 ** 24 / f(f(exact * 2) + 1)));
  const edge = Math.trunc((2 ** 24 - (2 * radius + 1) * inner) / 2);
  // The weights sum to 2^24, or to one less.
  const lacking = 2 ** 24 - (2 * radius + 1) * inner - 2 * edge;
  return { radius, inner, edge, bias: 2 ** 23 - 128 * lacking };
}

/**
 * PIL's GaussianBlur: three boxes along the rows, then three down the columns, each rounded to 8 bits.
 *
 * @param radius of all boxes
 * @param inner, edge, bias of each image's box, int32; values around 0 keep the fixed-point sums within 32 bits
 */
export function blur(pixels: Tensor, radius: number, inner: Tensor, edge: Tensor, bias: Tensor): Tensor {
  let centred = pixels.to("int16").sub_(128);
  for (const dim of [3, 3, 3, 2, 2, 2]) {
    const before = centred;
    centred = boxPass(before, dim, radius, inner, edge, bias);
    before.dispose();
  }
  return centred.add_(128).to("uint8");
}

function boxPass(centred: Tensor, dim: number, radius: number, inner: Tensor, edge: Tensor, bias: Tensor): Tensor {
  const size = centred.size(dim);
  const margin = radius + 1;
  const border = (at: number): Tensor => centred.narrow(dim, at, 1).expand(centred.shape.map((length, i) => (i === dim ? margin : length)));
  using padded = cat([border(0), centred, border(size - 1)], dim);
  using far = padded.narrow(dim, 0, size).add(padded.narrow(dim, 2 * margin, size));
  using near = windowSums(padded, dim, size, radius);
  using sum = bias.addcmul(far, edge).addcmul_(near, inner);
  return bitwiseRightShift_(sum, 24).to("int16");
}

/** Sums of 2 radius + 1 neighbours. */
function windowSums(padded: Tensor, dim: number, size: number, radius: number): Tensor {
  const at = (start: number): Tensor => padded.narrow(dim, start, size);
  if (radius === 0) return at(1);
  if (radius === 1) return at(1).add(at(2)).add_(at(3));
  // Beyond the method's own sigmas: differences of running sums, whose cost does not grow with the radius.
  const running = padded.cumsum(dim, { dtype: "int32" });
  return running.narrow(dim, 2 * radius + 1, size).sub(running.narrow(dim, 0, size));
}

/** Inverts the values at or above each image's threshold (int16). */
export function solarize(pixels: Tensor, threshold: Tensor): Tensor {
  return where(pixels.ge(threshold), pixels.bitwiseNot(), pixels);
}

/** Mirrors left and right. */
export function flip(pixels: Tensor): Tensor {
  return pixels.flip([3]);
}

/** Writes (pixel / 255 - mean) / std into `output`, float32; `mean` and `std` are [3, 1, 1]. */
export function normalize(pixels: Tensor, mean: Tensor, std: Tensor, output: Tensor, { full }: Pick<Constants, "full">): void {
  output.copy_(pixels).div_(full).sub_(mean).div_(std);
}
