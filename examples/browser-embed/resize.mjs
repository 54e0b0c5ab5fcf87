/**
 * Resizing as evaluation does it: bilinear with antialiasing, in whole numbers and with the rounding that Pillow has. A canvas would be
 * quicker, and blur or sharpen otherwise in each browser.
 */

/** Fractional bits of the weights. */
const ONE = 2 ** 22;

/**
 * Which pixels of a line of `from` pixels make up each of `to`, and with which weights.
 *
 * @returns {{ first: number, weights: Float64Array }[]}
 */
function contributions(from, to) {
  const scale = from / to;
  const support = Math.max(scale, 1); // a triangle as wide as a new pixel, and never narrower than an old one
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(from, Math.trunc(centre + support + 0.5));
    const shares = Float64Array.from({ length: last - first }, (_, j) => Math.max(0, 1 - Math.abs((first + j - centre + 0.5) / support)));
    const sum = shares.reduce((total, share) => total + share, 0);
    return { first, weights: shares.map((share) => Math.floor((share / sum) * ONE + 0.5)) };
  });
}

const rounded = (sum) => Math.min(255, Math.floor((sum + ONE / 2) / ONE));

/**
 * @param {{ data: Uint8Array | Uint8ClampedArray, width: number, height: number }} picture RGB, 3 bytes each
 * @returns {{ data: Uint8Array, width: number, height: number }}
 */
export function resize({ data, width, height }, toWidth, toHeight) {
  const across = contributions(width, toWidth);
  const lines = new Uint8Array(height * toWidth * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < toWidth; x++) {
      const { first, weights } = across[x];
      let [red, green, blue] = [0, 0, 0];
      for (let j = 0, at = 3 * (y * width + first); j < weights.length; j++, at += 3) {
        red += weights[j] * data[at];
        green += weights[j] * data[at + 1];
        blue += weights[j] * data[at + 2];
      }
      lines.set([rounded(red), rounded(green), rounded(blue)], 3 * (y * toWidth + x));
    }
  }
  const result = new Uint8Array(toHeight * toWidth * 3);
  for (const [y, { first, weights }] of contributions(height, toHeight).entries()) {
    for (let x = 0; x < 3 * toWidth; x++) {
      let sum = 0;
      for (let j = 0; j < weights.length; j++) sum += weights[j] * lines[3 * toWidth * (first + j) + x];
      result[3 * toWidth * y + x] = rounded(sum);
    }
  }
  return { data: result, width: toWidth, height: toHeight };
}

/** The shorter side to `shorter` pixels, the longer one cut off to whole ones. */
export function resizeShorter(picture, shorter) {
  const { width, height } = picture;
  const longer = Math.floor((shorter * Math.max(width, height)) / Math.min(width, height));
  return width <= height ? resize(picture, shorter, longer) : resize(picture, longer, shorter);
}

/** The centre of a picture. */
export function cropCentre({ data, width, height }, toWidth, toHeight) {
  const [left, top] = [halfToEven((width - toWidth) / 2), halfToEven((height - toHeight) / 2)];
  const result = new Uint8Array(3 * toWidth * toHeight);
  for (let y = 0; y < toHeight; y++) {
    const start = 3 * ((top + y) * width + left);
    result.set(data.subarray(start, start + 3 * toWidth), 3 * toWidth * y);
  }
  return { data: result, width: toWidth, height: toHeight };
}

function halfToEven(value) {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value);
}
