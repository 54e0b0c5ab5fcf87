import { describe, expect, test } from "@jest/globals";
import { DataOptionError } from "../../../lib/data/errors.js";
import { expandBraces } from "../../../lib/data/shards/braceExpansion.js";
import { readJson } from "../../support/fixtures.js";

const expected = readJson<{ braces: Record<string, string[]> }>("shards/expected.json").braces;

describe("braces are expanded", () => {
  test.each(Object.entries(expected))("%s, as Python's braceexpand does", (pattern, wanted) => {
    expect(expandBraces(pattern)).toEqual(wanted);
  });

  test("other backslashes stay, for commands need them", () => {
    expect(expandBraces("pipe:sed 's/\\t/ /' {a,b}")).toEqual(["pipe:sed 's/\\t/ /' a", "pipe:sed 's/\\t/ /' b"]);
    expect(expandBraces("pipe:awk '\\{print $1, $2\\}'")).toEqual(["pipe:awk '{print $1, $2}'"]);
  });

  test("braces that do not close and lists without end are refused", () => {
    expect(() => expandBraces("a{1..3")).toThrow(DataOptionError);
    expect(() => expandBraces("a}{")).toThrow(/the braces in a}\{ do not close; write/);
    expect(() => expandBraces("{1..9999999}")).toThrow(/stands for 9999999 shards; at most 1000000/);
    expect(() => expandBraces("{1..2000}{1..2000}")).toThrow(/more than 1000000 shards/);
  });
});
