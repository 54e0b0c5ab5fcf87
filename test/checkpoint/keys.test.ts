import { expect, test } from "@jest/globals";
import {
  addPrefix, hasPrefix, OrderedDict, selectPrefix, StateDictKeyError, stripPrefix, toStateDict,
} from "../../lib/checkpoint/index.js";
import * as torch from "../../lib/torch/index.js";

const upstream = new Map([
  ["module.base_encoder.cls_token", 1], ["module.base_encoder.head.0.weight", 2], ["module.predictor.0.weight", 3],
]);

test("the prefix of DistributedDataParallel goes on and off in order", () => {
  const bare = stripPrefix(upstream);
  expect([...bare.keys()]).toEqual(["base_encoder.cls_token", "base_encoder.head.0.weight", "predictor.0.weight"]);
  expect([...addPrefix(bare)]).toEqual([...upstream]);
  expect(bare).toBeInstanceOf(OrderedDict);
});

test("a prefix that only some keys have stays", () => {
  const mixed = new Map([["module.a", 1], ["b", 2]]);
  expect(hasPrefix(mixed)).toBe(false);
  expect([...stripPrefix(mixed)]).toEqual([...mixed]);
  expect(hasPrefix(new Map())).toBe(false);
});

test("one part of a state is selected by its prefix", () => {
  expect([...selectPrefix(upstream, "module.base_encoder.")]).toEqual([["cls_token", 1], ["head.0.weight", 2]]);
});

test("a state dict is taken from an OrderedDict, a Map or an object, and from nothing else", () => {
  const weight = torch.tensor([1]);
  const ordered = new OrderedDict([["weight", weight]]);
  ordered.attributes = { _metadata: new OrderedDict() };
  expect(toStateDict(ordered).attributes).toBe(ordered.attributes);
  for (const value of [ordered, new Map([["weight", weight]]), { weight }]) expect([...toStateDict(value)]).toEqual([["weight", weight]]);
  for (const value of [undefined, null, 3, [weight], weight, { weight: 3 }, new Map([[0, weight]])]) {
    expect(() => toStateDict(value)).toThrow(StateDictKeyError);
  }
  weight.dispose();
});
