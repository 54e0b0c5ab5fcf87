import { describe, expect, test } from "@jest/globals";
import { camelCase, isSupported, orderOverloads, parseSchema, SchemaSyntaxError } from "../../lib/torch/schema.js";

describe("parseSchema", () => {
  test("reads names, keyword-only arguments and defaults", () => {
    const schema = parseSchema("aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor");
    expect(schema).toMatchObject({ name: "add", overload: "Tensor", fullName: "aten::add.Tensor", isVariadic: false });
    expect(schema.arguments.map(({ name, kwargOnly, default: value }) => [name, kwargOnly, value])).toEqual([
      ["self", false, null], ["other", false, null], ["alpha", true, "1"],
    ]);
    expect(schema.returns).toEqual([{
      name: null, alias: null, aliasOf: -1, type: { base: "Tensor", optional: false, list: null, text: "Tensor" },
    }]);
  });

  test("an unnamed overload has an empty overload name", () => {
    expect(parseSchema("aten::relu(Tensor self) -> Tensor")).toMatchObject({ name: "relu", overload: "", fullName: "aten::relu" });
  });

  test.each([
    ["Tensor", { base: "Tensor", optional: false, list: null }],
    ["Tensor?", { base: "Tensor", optional: true, list: null }],
    ["Tensor[]", { base: "Tensor", optional: false, list: { size: null, elementOptional: false } }],
    ["Tensor?[]", { base: "Tensor", optional: false, list: { size: null, elementOptional: true } }],
    ["Tensor[]?", { base: "Tensor", optional: true, list: { size: null, elementOptional: false } }],
    ["SymInt", { base: "int", optional: false, list: null }],
    ["SymInt[2]", { base: "int", optional: false, list: { size: 2, elementOptional: false } }],
    ["int[1]?", { base: "int", optional: true, list: { size: 1, elementOptional: false } }],
    ["bool[3]", { base: "bool", optional: false, list: { size: 3, elementOptional: false } }],
    ["ScalarType?", { base: "ScalarType", optional: true, list: null }],
    ["MemoryFormat", { base: "MemoryFormat", optional: false, list: null }],
    ["__torch__.torch.classes.rnn.CellParamsBase[]",
      { base: "__torch__.torch.classes.rnn.CellParamsBase", optional: false, list: { size: null, elementOptional: false } }],
    ["Dict(str, Tensor)", { base: "Dict(str, Tensor)", optional: false, list: null }],
    ["(int, float)[]", { base: "(int, float)", optional: false, list: { size: null, elementOptional: false } }],
    ["int[][]", { base: "int[]", optional: false, list: { size: null, elementOptional: false } }],
  ])("type %s", (text, expected) => {
    expect(parseSchema(`aten::f(${text} x) -> ()`).arguments[0]?.type).toMatchObject(expected);
  });

  test.each([
    ["int[2] x=[1, 1]", "[1, 1]"], ["str x=\"none\"", "\"none\""], ["str? x=None", "None"],
    ["float x=9.9999999999999995e-07", "9.9999999999999995e-07"],
    ["str x=\"a, b) \\\" c\"", "\"a, b) \\\" c\""], ["int x=-1", "-1"], ["int[] x=[]", "[]"], ["bool x=False", "False"],
  ])("default of %s", (argument, expected) => {
    expect(parseSchema(`aten::f(${argument}, int last) -> ()`).arguments[0]).toMatchObject({ hasDefault: true, default: expected });
  });

  test("returns that an operator writes to point at their arguments", () => {
    const { arguments: given, returns } = parseSchema(
      "aten::max.dim_max(Tensor self, int dim, bool keepdim=False, *, Tensor(a!) max, Tensor(b!) max_values) -> " +
        "(Tensor(a!) values, Tensor(b!) indices)",
    );
    expect(given.map(({ jsName, isWrite, alias }) => [jsName, isWrite, alias])).toEqual([
      ["self", false, null], ["dim", false, null], ["keepdim", false, null], ["max", true, "a"], ["maxValues", true, "b"],
    ]);
    expect(returns.map(({ name, aliasOf }) => [name, aliasOf])).toEqual([["values", 3], ["indices", 4]]);
  });

  test("a view is not a write", () => {
    const { arguments: given, returns } = parseSchema(
      "aten::split.Tensor(Tensor(a -> *) self, SymInt split_size, int dim=0) -> Tensor(a)[]",
    );
    expect(given[0]).toMatchObject({ alias: "a", isWrite: false });
    expect(returns).toMatchObject([{ alias: "a", aliasOf: -1, type: { base: "Tensor", list: { size: null } } }]);
  });

  test("lists written in place, and nothing returned", () => {
    const { arguments: given, returns } = parseSchema(
      "aten::_foreach_add_.List(Tensor(a!)[] self, Tensor[] other, *, Scalar alpha=1) -> ()",
    );
    expect(given[0]).toMatchObject({ isWrite: true, type: { base: "Tensor", list: { size: null } } });
    expect(returns).toEqual([]);
  });

  test("operators of TorchScript: variadic, type variables, functions without a namespace", () => {
    expect(parseSchema("aten::format(str self, ...) -> str").isVariadic).toBe(true);
    expect(parseSchema("prim::TupleUnpack(Any tup) -> ...").isVariadic).toBe(true);
    expect(parseSchema("aten::append.t(t[](a!) self, t(c -> *) el) -> t[](a!)").returns[0]?.aliasOf).toBe(0);
    expect(parseSchema("f(int x) -> int").name).toBe("f");
  });

  test.each([
    ["aten::add(Tensor self", "\")\" at column 22"], ["aten::add(Tensor self)", "\"->\" at column 23"],
    ["", "an operator name at column 1"],
    ["aten::add(Tensor) -> Tensor", "an argument name at column 17"], ["aten::add() -> Tensor extra more", "the end at column 29"],
  ])("rejects %s", (text, expected) => {
    expect(() => parseSchema(text)).toThrow(SchemaSyntaxError);
    expect(() => parseSchema(text)).toThrow(`expected ${expected}`);
  });
});

test("camelCase keeps underscores at either end", () => {
  const expected = {
    layer_norm: "layerNorm", _foreach_lerp_: "_foreachLerp_", __and__: "__and__", upsample_bilinear2d: "upsampleBilinear2d", add_: "add_",
    _log_softmax_backward_data: "_logSoftmaxBackwardData", from_: "from_", UPLO: "UPLO", add: "add",
  };
  for (const [name, jsName] of Object.entries(expected)) expect(camelCase(name)).toBe(jsName);
});

test("isSupported accepts what has a JavaScript form", () => {
  const supported = (text: string): boolean => isSupported(parseSchema(text));
  expect(supported("aten::f(Tensor a, int b, float[]? c, bool d, str e, Scalar f, ScalarType? g, Device h, Layout? i, " +
    "MemoryFormat? j, Generator? k, Tensor?[] l) -> (Tensor[], Scalar, bool)")).toBe(true);
  expect(supported("aten::f(Storage s) -> ()")).toBe(false);
  expect(supported("aten::f(Tensor(a!) self, Stream s) -> ()")).toBe(false);
  expect(supported("aten::f(Tensor t) -> QScheme")).toBe(false);
  expect(supported("aten::f(int[][] x) -> ()")).toBe(false);
  expect(supported("aten::f(int x, ...) -> ()")).toBe(false);
});

test("overloads on dimension names are tried last", () => {
  expect(orderOverloads(["dim_DimnameList", "dim_IntList", "", "out", "names_out"]))
    .toEqual(["", "dim_IntList", "out", "dim_DimnameList", "names_out"]);
});
