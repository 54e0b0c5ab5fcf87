import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { native } from "../../lib/native.js";
import type { Tensor } from "../../lib/torch/tensor.js";
import * as ops from "../../lib/torch/ops.generated.js";
import { methodNames } from "../../lib/torch/methods.generated.js";
import { camelCase, isSupported, parseSchema, type Schema } from "../../lib/torch/schema.js";
import { CodegenError, generate } from "../../scripts/codegen/emit.js";

function checkedIn(name: string): string {
  return readFileSync(fileURLToPath(new URL(`../../../lib/torch/${name}`, import.meta.url)), "utf8");
}

/** First line that differs: the whole files would drown the message. */
function firstDifference(expected: string, actual: string): string {
  const lines = actual.split("\n");
  const index = expected.split("\n").findIndex((line, i) => line !== lines[i]);
  return expected === actual ? "" : `line ${index + 1}: ${lines[index]}; run: node dist/scripts/codegen/generateOps.js`;
}

describe("the checked-in files", () => {
  let schemas: Schema[];
  beforeAll(() => {
    schemas = native.schemas().map(parseSchema);
  });

  test("are what this libtorch's schemas give", () => {
    const files = generate(native.schemas(), native.versions().built.split("+")[0] as string);
    expect(firstDifference(files.ops, checkedIn("ops.generated.ts"))).toBe("");
    expect(firstDifference(files.methods, checkedIn("methods.generated.ts"))).toBe("");
  });

  test("export a function for every operator with supported types", () => {
    const exported: Readonly<Record<string, unknown>> = { ...ops };
    const missing = schemas.filter(isSupported).filter(({ name }) => typeof exported[camelCase(name)] !== "function");
    expect(missing.map(({ fullName }) => fullName)).toEqual([]);
    expect(Object.keys(exported).length).toBeGreaterThan(1500);
  });

  test("leave out only operators on storages, streams and custom classes", () => {
    const bases = schemas.filter((schema) => !isSupported(schema)).flatMap(({ arguments: given, returns }) =>
      [...given, ...returns].map(({ type }) => type.base));
    const known = /^(Tensor|int|float|bool|ScalarType|Storage|Stream|QScheme|Dict\(.*\)|__torch__\..*)$/;
    expect(bases.filter((base) => !known.test(base))).toEqual([]);
  });

  test("list methods that take a tensor first", () => {
    for (const name of methodNames) {
      expect(schemas.some((schema) => schema.name === name && schema.arguments[0]?.type.text === "Tensor")).toBe(true);
    }
  });
});

/** Never called: tsc checks that the types take what they should and refuse what they should not. */
export function typedCalls(x: Tensor, weight: Tensor): readonly Tensor[] {
  const [values, indices] = ops.max(x, 1, { keepdim: true });
  const blended: void = ops._foreachLerp_([x], [weight], 0.5);
  const size: number = ops.symSize(x, 0);
  const self: Tensor = x.add_(weight, { alpha: size }).mul_(2n);
  // @ts-expect-error: a tensor is not a shape
  ops.reshape(x, weight);
  // @ts-expect-error: there is no such dtype
  ops.zeros([2], { dtype: "float" });
  // @ts-expect-error: options end a call
  ops.conv2d(x, weight, { stride: 2 }, 1);
  return [
    values, indices, self, ops.conv2d(x, weight, null, { stride: 2, padding: [1, 1] }), ops.add(x, 1, { out: weight }),
    ops.var(x, [0], true), ops.zeros([2, 3], { dtype: "bfloat16", device: "cuda" }), ops.index(x, [null, indices]),
    ops.clamp(x, null, 5), x.sum(1, { dtype: "float64" }), ops.div(x, 2, { roundingMode: "floor" }), x.norm(2, [1], true),
    ...x.split([1, 2]), blended ?? x,
  ];
}

describe("generate", () => {
  const methodSchemas = methodNames.map((name) => `aten::${name}(Tensor self) -> Tensor`);
  const opsOf = (...schemas: string[]): string => generate([...methodSchemas, ...schemas], "0.0.0").ops;

  test("gives defaulted parameters by position or by name", () => {
    expect(opsOf("aten::f(Tensor self, int[2] stride=1, *, ScalarType? dtype=None) -> (Tensor values, int count)")).toContain([
      "export const f: {",
      "  /** `f(Tensor self, int[2] stride=1, *, ScalarType? dtype=None) -> (Tensor values, int count)` */",
      "  (self: Tensor, options?: StrideDtypeOptions): readonly [values: Tensor, count: number];",
      "  (self: Tensor, stride: IntOrInts, options?: StrideDtypeOptions): readonly [values: Tensor, count: number];",
      "} = bind(\"f\") as never;",
    ].join("\n"));
  });

  test("joins an overload and its variant with out", () => {
    const text = opsOf("aten::f(Tensor self) -> Tensor", "aten::f.out(Tensor self, *, Tensor(a!) out) -> Tensor(a!)");
    expect(text).toContain("(self: Tensor, options?: { out?: Tensor }): Tensor;");
    expect(text).not.toContain("f.out");
  });

  test("does not depend on the order of the schemas", () => {
    const schemas = ["aten::f.b(Tensor self, int x) -> Tensor", "aten::f.a(Tensor self, Tensor x) -> Tensor", "aten::e() -> ()"];
    expect(opsOf(...schemas)).toBe(opsOf(...schemas.toReversed()));
  });

  test("exports reserved words under their name", () => {
    expect(opsOf("aten::delete(Tensor self) -> Tensor")).toMatch(/const deleteOp: [\s\S]*export \{ deleteOp as delete, varOp as var \};/);
  });

  test("refuses names that collide, and methods that do not exist", () => {
    expect(() => opsOf("aten::a_b(Tensor self) -> Tensor", "aten::aB(Tensor self) -> Tensor")).toThrow(CodegenError);
    expect(() => generate([], "0.0.0")).toThrow(/methods.ts lists abs, which libtorch 0.0.0 lacks/);
  });
});
