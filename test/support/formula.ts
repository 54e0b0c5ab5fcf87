/**
 * Weights that any language can generate exactly, so that full-size models need no weight file. The rule is in
 * `test/fixtures/formula/manifest.json`.
 */

// Jest runs tests in a context where every look-up of a global is slow: it would be most of the time here.
const { imul } = Math;

/** 32-bit FNV-1a of the UTF-8 name. */
export function fnv1a(name: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(name, "utf8")) hash = imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

function mix32(x: number): number {
  x = imul(x ^ (x >>> 16), 0x7feb352d);
  x = imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** 32 random bits of element `index` (C order) of the tensor `name`. */
export function formulaBits(name: string, seed: number, index: number): number {
  return mix32(mix32((index + seed) >>> 0) ^ fnv1a(name));
}

/** `count` values in [-1, 1), exact in float32. */
export function formulaUnit(name: string, seed: number, count: number, scale = 1): Float32Array {
  const nameHash = fnv1a(name);
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = ((mix32(mix32((i + seed) >>> 0) ^ nameHash) >>> 8) * 2 ** -23 - 1) * scale;
  return values;
}

/**
 * Values of the parameter `name` of the given shape.
 *
 * @param damp a name's ending and the power of two that such parameters are multiplied by
 */
export function formulaParameter(name: string, shape: readonly number[], seed: number, damp?: readonly [string, number]): Float32Array {
  const count = shape.reduce((product, size) => product * size, 1);
  let values: Float32Array;
  if (shape.length >= 2) {
    values = formulaUnit(name, seed, count, Math.fround(Math.sqrt(3 / (count / (shape[0] as number)))));
  } else {
    const unit = formulaUnit(name, seed, count);
    values = unit.map((u) => (name.endsWith(".bias") ? u / 8 : 1 + u / 4));
  }
  return damp && name.endsWith(damp[0]) ? values.map((v) => v * damp[1]) : values;
}
