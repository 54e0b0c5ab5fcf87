import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { readCheckpointFrom } from "../../lib/checkpoint/readCheckpoint.js";
import * as torch from "../../lib/torch/index.js";
import { runCampaign } from "../../scripts/fuzz/campaign.js";
import { examine, type Reader } from "../../scripts/fuzz/examine.js";
import type { FuzzInput, FuzzTarget } from "../../scripts/fuzz/fuzzTarget.js";
import { Random } from "../../scripts/fuzz/random.js";
import { shrink } from "../../scripts/fuzz/shrink.js";
import { count, emptyTally } from "../../scripts/fuzz/tally.js";
import { targets } from "../../scripts/fuzz/targets.js";
import { fixturePath } from "../support/fixtures.js";
import { plantedFault } from "./plantedFaults.js";

let folder: string;
let tensors: number;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "moco-fuzz-test-"));
  tensors = torch.memory().tensors;
});

afterAll(() => {
  rmSync(folder, { recursive: true });
  expect(torch.memory().tensors).toBe(tensors);
});

function targetOf(name: string): FuzzTarget {
  return (targets[name] as () => FuzzTarget)();
}

const regressions = readdirSync(fixturePath("fuzz")).filter((name) => name !== "README.md").sort();

test("each regression file is explained", () => {
  const explained = readFileSync(fixturePath("fuzz/README.md"), "utf8").match(/(?<=^\| `)[^`]+/gm);
  expect(explained).toEqual(regressions);
});

describe.each(regressions)("%s, which broke the reader once", (name) => {
  const bytes = readFileSync(fixturePath(`fuzz/${name}`));
  const target = targetOf("checkpoint");

  test.each([["error", false], ["error", true], ["placeholder", false], ["placeholder", true]] as const)(
    "unknownGlobals %s, tagFloats %s", async (unknownGlobals, tagFloats) => {
      const started = performance.now();
      const input: FuzzInput = { bytes, strategy: name, options: { unknownGlobals, tagFloats }, throughFile: true, writeBack: true };
      expect(await examine(input, target, folder)).toMatchObject({ fault: null });
      expect(performance.now() - started).toBeLessThan(5000);
    });
});

test.each(Object.keys(targets))("3,000 inputs of the %s fuzzer give values and errors of many kinds, and nothing else", async (name) => {
  const target = targetOf(name);
  const tally = emptyTally();
  const strategies = new Set<string>();
  for (let index = 0; index < 3000; index++) {
    const input = target.input(new Random(20_260, index));
    strategies.add(input.strategy);
    const outcome = await examine(input, target, folder);
    expect({ index, fault: outcome.fault }).toEqual({ index, fault: null });
    count(tally, outcome);
  }
  const { depths, kinds } = tally;
  expect(depths["value"]).toBeGreaterThan(0.3 * tally.inputs);
  expect(depths["container"]).toBeLessThan(0.5 * tally.inputs);
  expect(Object.keys(kinds).length).toBeGreaterThan(5);
  expect(kinds["other"] ?? 0).toBeLessThan(0.02 * tally.inputs);
  expect(strategies.size).toBeGreaterThan(3);
}, 60_000);

test("an input is a function of seed and number", () => {
  const target = targetOf("checkpoint");
  const again = targetOf("checkpoint");
  for (const index of [0, 7, 2 ** 33]) {
    const { bytes, options } = target.input(new Random(5, index));
    const other = again.input(new Random(5, index));
    expect(bytes.equals(other.bytes)).toBe(true);
    expect(options).toEqual(other.options);
  }
  expect(target.input(new Random(5, 1)).bytes.equals(target.input(new Random(5, 2)).bytes)).toBe(false);
  expect(target.input(new Random(5, 1)).bytes.equals(target.input(new Random(6, 1)).bytes)).toBe(false);
});

describe("what counts as a finding", () => {
  const target = targetOf("checkpoint");
  const readable = (bytes: Buffer): FuzzInput => (
    { bytes, strategy: "", options: { unknownGlobals: "error", tagFloats: false }, throughFile: false, writeBack: true }
  );
  const control = readable(readFileSync(fixturePath("unsafe/control_zip.pth")));
  const faults: Record<string, [Reader, RegExp]> = {
    "a RangeError": [() => Promise.reject(new RangeError("planted")), /RangeError: planted/],
    "something thrown that is no error": [() => Promise.reject("planted" as unknown as Error), /threw planted/],
    "a TypeError inside a CheckpointError": [async (source) => {
      const { CheckpointError } = await import("../../lib/checkpoint/error.js");
      throw new CheckpointError({ file: source.name }, null, "it cannot be read", { cause: new TypeError("planted") });
    }, /cause: TypeError: planted/],
    "an error that names another file": [async () => {
      const { CheckpointError } = await import("../../lib/checkpoint/error.js");
      throw new CheckpointError({ file: "another" }, null, "it cannot be read");
    }, /without file or reason/],
    "a tensor that is left over": [async (source, options) => {
      leaked = torch.keep(torch.zeros([1]));
      return readCheckpointFrom(source, options);
    }, /1 tensors are left over/],
    "a function in the value": [() => Promise.resolve({ run: () => 1 }), /./],
    "far larger tensors than the file": [async () => [torch.keep(torch.empty([80 * 2 ** 20], { dtype: "uint8" }))],
      /bytes out of a file of/],
  };
  let leaked: torch.Tensor | undefined;

  test.each(Object.keys(faults))("%s", async (name) => {
    const [read, message] = faults[name] as [Reader, RegExp];
    // Null prototype, as values have: plain objects of other kinds are not walked.
    const reader: Reader = async (source, options) => {
      const value = await read(source, options);
      return name.startsWith("a function") ? Object.assign(Object.create(null) as object, value) : value;
    };
    const { fault } = await examine({ ...control, writeBack: false }, target, folder, reader);
    leaked?.dispose();
    leaked = undefined;
    expect(fault).toMatch(message);
  });

  test("no fault at all is none", async () => {
    expect(await examine(control, target, folder)).toEqual({ depth: "value", kind: "value", fault: null });
  });

  test("a finding is made small", async () => {
    const bytes = Buffer.from(Array.from({ length: 200 }, (_, i) => i));
    const smallest = await shrink({ ...control, bytes }, (candidate) => Promise.resolve(candidate.includes(17) && candidate.includes(180)));
    expect([...smallest]).toEqual([17, 180]);
  });
});

describe("worker processes", () => {
  const options = { seed: 1, from: 0, workers: 1, seconds: 60 };

  test("run what is asked, and report it", async () => {
    const { tally, findings, memoryRatio } = await runCampaign({ ...options, target: "checkpoint", inputs: 300 });
    expect(tally.inputs).toBe(300);
    expect(findings).toEqual([]);
    expect(memoryRatio).toBeGreaterThan(0);
  });

  test("that die, hang or report a fault are findings, and the inputs around them are run", async () => {
    const module = new URL("./plantedFaults.js", import.meta.url).href;
    const { tally, findings } = await runCampaign({ ...options, target: "planted", module, inputs: 120, hangSeconds: 2 });
    const expected = Array.from({ length: 120 }, (_, index) => ({ index, fault: plantedFault(new Random(1, index)) }))
      .filter(({ fault }) => fault !== null);
    expect(new Set(expected.map(({ fault }) => fault))).toEqual(new Set(["hang", "death", "growth"]));
    expect(findings.map(({ index }) => index)).toEqual(expected.map(({ index }) => index));
    const messages = { hang: /^hung for 2 s/, death: /^the process died \(SIGKILL\)/, growth: /^took \d+ bytes for a file of 3$/ };
    for (const [i, { fault }] of expected.entries()) expect(findings[i]?.fault).toMatch(messages[fault as keyof typeof messages]);
    expect(tally.inputs).toBe(120 - expected.filter(({ fault }) => fault !== "growth").length);
  }, 60_000);
});
