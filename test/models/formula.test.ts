/** The formula weights that the full-size golden models are made of. */
import { describe, expect, test } from "@jest/globals";
import { digestError, type Digest } from "../support/digest.js";
import { readJson } from "../support/fixtures.js";
import { fnv1a, formulaBits, formulaParameter, formulaUnit } from "../support/formula.js";

interface Vectors {
  bits: { name: string; seed: number; fnv1a: number; bits: number[]; unit: number[] }[];
  values: { name: string; shape: number[]; seed: number; first8: number[]; digest: Digest }[];
}

const vectors = readJson<Vectors>("formula/vectors.json");

describe("formula weights", () => {
  test.each(vectors.bits)("bits of $name with seed $seed", ({ name, seed, fnv1a: hash, bits, unit }) => {
    expect(fnv1a(name)).toBe(hash);
    expect(bits.map((_, i) => formulaBits(name, seed, i))).toEqual(bits);
    expect([...formulaUnit(name, seed, unit.length)]).toEqual(unit);
  });

  test.each(vectors.values)("values of $name $shape", ({ name, shape, seed, first8, digest }) => {
    const values = formulaParameter(name, shape, seed);
    expect([...values.slice(0, 8)]).toEqual(first8);
    expect(digestError(values, digest)).toBeLessThan(1e-12);
  });
});
