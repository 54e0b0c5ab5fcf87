import { describe, expect, test } from "@jest/globals";
import { CheckpointError } from "../../lib/checkpoint/error.js";
import { OrderedDict, PythonComplex, PythonFloat, PythonObject, PythonTuple, TorchSize } from "../../lib/checkpoint/pythonValues.js";
import { writePickle } from "../../lib/checkpoint/pickle/pickleWriter.js";
import { integer, parsePickle, pickle, tensor, text } from "./assemble.js";

const fault = (pattern: RegExp) => ({ name: "CheckpointError", reason: expect.stringMatching(pattern) });

describe("values", () => {
  test.each<[string, Buffer, unknown]>([
    ["None", pickle("N"), null],
    ["integers of 1, 2 and 4 bytes", pickle("(", "K", 255, "M", 1, 2, integer(-7), "t"), [255, 513, -7]],
    ["LONG1 of length 0", pickle(0x8a, 0), 0],
    ["LONG1", pickle(0x8a, 3, 0, 0, 0x80), -8388608],
    ["LONG1 beyond 2^53", pickle(0x8a, 8, 255, 255, 255, 255, 255, 255, 255, 127), 9223372036854775807n],
    ["LONG4", pickle(0x8b, 2, 0, 0, 0, 1, 1), 257],
    ["a str of Python 2", pickle("U", 2, "ab"), "ab"],
    ["bytes of Python 2", pickle("U", 2, 0xff, 0xfe), Uint8Array.of(255, 254)],
  ])("%s", async (_, data, expected) => {
    const value = await parsePickle(data);
    expect(Array.isArray(value) ? [...value as unknown[]] : value).toEqual(expected);
  });

  test("POP takes a value or a mark, POP_MARK both, DUP repeats", async () => {
    await expect(parsePickle(pickle("N(0"))).resolves.toBe(null);
    await expect(parsePickle(pickle("NK", 1, "0"))).resolves.toBe(null);
    await expect(parsePickle(pickle("N(K", 1, "K", 2, "1"))).resolves.toBe(null);
    await expect(parsePickle(pickle("](K", 1, "2e"))).resolves.toEqual([1, 1]);
    await expect(parsePickle(pickle("(", text("a"), "K", 1, "d"))).resolves.toEqual({ a: 1 });
    await expect(parsePickle(pickle("(K", 1, "l"))).resolves.toEqual([1]);
  });

  test("the memo may begin at 1, as Python 2 counts, and MEMOIZE counts entries", async () => {
    await expect(parsePickle(pickle("(K", 5, "q", 1, "K", 6, 0x94, "h", 1, "l"))).resolves.toEqual([5, 6, 6]);
    await expect(parsePickle(pickle("(K", 5, "q", 1, "K", 6, "q", 2, "h", 1, "h", 2, "l"))).resolves.toEqual([5, 6, 5, 6]);
  });

  test("a container that occurs twice stays one", async () => {
    const [first, second] = (await parsePickle(pickle("]", "(", "]q", 1, "h", 1, "e"))) as unknown[];
    expect(first).toBe(second);
  });

  test("keys that would pollute a prototype or lose their order make a Map", async () => {
    const value = await parsePickle(pickle("}(", text("__proto__"), "}", text("10"), "K", 1, text("9"), "K", 2, "u"));
    expect([...(value as Map<string, unknown>).keys()]).toEqual(["__proto__", "10", "9"]);
    const plain = (await parsePickle(pickle("}(", text("constructor"), "K", 1, text("toString"), "K", 2, "u"))) as Record<string, unknown>;
    expect(Object.getPrototypeOf(plain)).toBe(null);
    expect({ ...plain }).toEqual({ constructor: 1, toString: 2 });
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
  });
});

describe("what is refused", () => {
  test.each<[string, Buffer, RegExp]>([
    ["a text opcode of protocol 0", pickle("I1\n"), /opcode 0x49/],
    ["an unknown opcode", pickle(0xff), /opcode 0xff/],
    ["protocol 6", Buffer.from([0x80, 6, 0x4e, 0x2e]), /protocol 6/],
    ["no protocol", Buffer.from("N."), /not a pickle of protocol/],
    ["an end inside a string", Buffer.concat([pickle().subarray(0, 2), text("abc").subarray(0, 6)]), /ends inside/],
    ["a string longer than the file", pickle("X", 0xff, 0xff, 0xff, 0x00), /ends inside a string/],
    ["a string beyond the limit", pickle("X", 0xff, 0xff, 0xff, 0xff), /4294967295 bytes; the limit/],
    ["a string of 2^64 bytes", pickle(0x8d, ...Array<number>(8).fill(255)), /a length of/],
    ["an integer beyond the limit", pickle(0x8b, 0xff, 0xff, 0xff, 0x7f), /integer of 2147483647 bytes/],
    ["a frame longer than the file", pickle(0x95, ...Array<number>(7).fill(0), 1), /ends inside a frame|a length of/],
    ["a string that is not UTF-8", pickle("X", 1, 0, 0, 0, 0xff), /not UTF-8/],
    ["an empty stack", pickle("0"), /stack is empty/],
    ["values left on the stack", pickle("NN"), /left on the stack/],
    ["a mark left on the stack", pickle("N("), /stack is empty|left on the stack/],
    ["no mark", pickle("Nt"), /no mark/],
    ["a pop through a mark", pickle("N(a"), /too few/],
    ["an unset memo entry", pickle("h", 7), /memo entry 7/],
    ["APPEND on a tuple", pickle(")Na"), /APPEND on a tuple/],
    ["SETITEM on a list", pickle("]NNs"), /SETITEM on a list/],
    ["a key without a value", pickle("}(Nu"), /key without a value/],
    ["a list as a key", pickle("}]Ns"), /has a list of 0 as a key/],
    ["ADDITEMS on a dict", pickle("}(N", 0x90), /ADDITEMS on a dict/],
    ["BUILD on a list", pickle("]}b"), /BUILD on a list/],
    ["BUILD on a dict", pickle("}}b"), /BUILD on a plain dict/],
    ["a call of a string", pickle(text("eval"), ")R"), /a call of a string/],
    ["a call without a tuple", pickle("ccollections\nOrderedDict\n]R"), /instead of a tuple/],
    ["a call of a storage class", pickle("ctorch\nFloatStorage\n)R"), /torch\.FloatStorage cannot be called/],
    ["a call of a dtype", pickle("ctorch\nfloat32\n)R"), /torch\.float32 cannot be called/],
    ["a global not on the list", pickle("cos\nsystem\n", text("true"), 0x85, "R"), /os\.system.*Nothing was run/],
    ["its mention alone", pickle("cos\nsystem\n"), /os\.system/],
    ["JavaScript's own names", pickle("cconstructor\nconstructor\n"), /constructor\.constructor/],
    ["a module as if renamed", pickle("c__proto__\neval\n"), /__proto__\.eval/],
    ["STACK_GLOBAL of numbers", pickle("K", 1, "K", 2, 0x93), /two strings/],
    ["terminal escapes in a name", pickle("c\u001b[31mos\nsystem\n"), /"\\u001b\[31mos\.system"/],
    ["a name without end", pickle("c", "x".repeat(5000)), /longer than 1000/],
    ["a persistent id that is no storage", pickle(text("x"), "Q"), /persistent id is a string/],
    ["a storage that the zip lacks", storage("9"), /no entry x\/data\/9/],
    ["a storage key that climbs", storage("../version"), /no entry/],
    ["a storage of another size", tensorOver(5, [5], [1]), /20 bytes, but its entry has 16/],
    ["a tensor beyond its storage", tensorOver(4, [5], [1]), /reaches element 4 of a storage that holds 4/],
    ["an offset beyond its storage", tensorOver(4, [0], [1], 5), /reaches element 4/],
    ["a negative size", tensorOver(4, [-1], [1]), /has -1/],
    ["a negative stride", tensorOver(4, [2], [-1]), /has -1/],
    ["sizes whose product overflows", tensorOver(4, Array<number>(3).fill(2 ** 30), [0, 0, 0]), /overflows/],
    ["an element index that overflows", tensorOver(4, [2 ** 30, 2 ** 30], [2 ** 30, 2 ** 30]), /overflows/],
    ["an empty tensor whose other sizes overflow", tensorOver(4, [0, ...Array<number>(3).fill(2 ** 30)], [0, 0, 0, 0]), /overflows/],
    ["more sizes than strides", tensorOver(4, [2, 2], [1]), /2 sizes but 1 strides/],
    ["too many dimensions", tensorOver(4, Array<number>(65).fill(1), Array<number>(65).fill(1)), /65 dimensions/],
    ["a tensor expanded without end", tensorOver(4, [2 ** 30, 4], [0, 1]), /repeats its storage/],
    ["a list that holds itself", pickle("]q", 0, "h", 0, "a"), /holds itself/],
    ["bytes behind the end", Buffer.concat([pickle("N"), Buffer.from("N.")]), /follow the end/],
  ])("%s", async (_, data, pattern) => {
    await expect(parsePickle(data)).rejects.toMatchObject(fault(pattern));
  });

  function storage(key: string): Buffer {
    return pickle("(", text("storage"), "ctorch\nFloatStorage\n", text(key), text("cpu"), "K", 4, "tQ");
  }

  function tensorOver(elements: number, size: number[], stride: number[], offset = 0): Buffer {
    return pickle(tensor(elements, offset, size, stride));
  }

  test("the error has file, entry, offset and reason", async () => {
    const error: unknown = await parsePickle(pickle("]", "cos\nsystem\n")).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error).toMatchObject({ file: "memory.pth", entry: "x/data.pkl", offset: 3, ...fault(/os\.system/) });
    expect((error as Error).message).toMatch(/^memory\.pth \(x\/data\.pkl, byte 3\): the pickle asks for os\.system/);
  });

  test.each<[string, Parameters<typeof parsePickle>[1], Buffer, RegExp]>([
    ["opcodes", { limits: { opcodes: 5 } }, pickle("]NaNaNa"), /more than 5 opcodes/],
    ["stack", { limits: { stack: 3 } }, pickle("(NNNNt"), /more than 3 values/],
    ["marks", { limits: { marks: 3 } }, pickle("(((("), /more than 3 containers/],
    [
      "large numbers as keys", { limits: { sparseNumbers: 1 } },
      pickle("}(", integer(-7), "K", 1, integer(2 ** 30), "K", 2, "u"), /more than 1 large, negative or broken numbers are keys/,
    ],
    ["a gap in the memo", {}, pickle("Nr", 0xe9, 3, 0, 0), /memo entry 1001 is set when there are 0/],
    ["memo", { limits: { memo: 2 } }, pickle("Nq", 0, "q", 1, "q", 2), /more than 2 memo/],
    ["depth", { limits: { depth: 3 } }, pickle("]]]]aaa"), /more than 3 deep/],
    ["leaves", { limits: { leaves: 3 } }, pickle("](NNNNe"), /more than 3 leaves/],
    ["pickle", { limits: { pickleBytes: 10 } }, pickle("N".repeat(20)), /limit is 10/],
  ])("more %s than the limit", async (_, options, data, pattern) => {
    await expect(parsePickle(data, options)).rejects.toMatchObject(fault(pattern));
  });

  test("a small file that asks for much memory", async () => {
    // A dict takes one byte of pickle and some hundred of memory.
    const memory = process.memoryUsage().rss;
    const dicts = pickle("(", "}q\u00010".repeat(200_000), "t");
    await expect(parsePickle(dicts)).rejects.toMatchObject(fault(/beyond \d+ bytes/));
    expect(process.memoryUsage().rss - memory).toBeLessThan(200 * 2 ** 20);
  });
});

test("an unknown object is kept as inert data on request", async () => {
  const data = pickle("clightning\nModule\n)", 0x81, "}(", text("lr"), "K", 3, "ub");
  await expect(parsePickle(data)).rejects.toMatchObject(fault(/lightning\.Module/));
  const value = (await parsePickle(data, { unknownGlobals: "placeholder" })) as PythonObject;
  expect(value).toBeInstanceOf(PythonObject);
  expect(value.global.toString()).toBe("lightning.Module");
  expect(value.state).toEqual({ lr: 3 });
});

describe("writing", () => {
  const site = { file: "out.pth" };
  const write = (value: unknown): Buffer => writePickle(value, site, () => null);

  test("what is read back equals what was written", async () => {
    const shared = ["shared"];
    const ordered = new OrderedDict<unknown, unknown>([["b", 1], ["a", null]]);
    ordered.attributes = { _metadata: new OrderedDict([["", { version: 1 }]]) };
    const value = {
      integers: [0, 255, 256, 65535, 65536, -1, 2147483647, -2147483648, 2147483648, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER],
      bigintegers: [2n ** 63n, -(2n ** 63n), 2n ** 64n - 1n, -(2n ** 2000n), 2n ** 53n],
      floats: [0.1, -0, Infinity, -Infinity, NaN, 1e300, 5e-324],
      flags: [true, false, null],
      text: ["", "héllo ✓", "😀", "x".repeat(70_000)],
      map: new Map<unknown, unknown>([[0, "zero"], ["10", 1], [true, 2], [null, 3], [1.5, 4]]),
      ordered,
      tuples: [PythonTuple.fromArray([]), PythonTuple.fromArray([1]), PythonTuple.fromArray([1, 2]), PythonTuple.fromArray([1, 2, 3]),
        PythonTuple.fromArray([1, 2, 3, 4])],
      size: TorchSize.fromArray([2, 3]),
      set: new Set([1, "a"]),
      complex: new PythonComplex(1, -2),
      bytes: Uint8Array.of(0, 127, 128, 255),
      shared: [shared, shared],
      many: Array.from({ length: 2500 }, (_, i) => i),
      manyKeys: new Map(Array.from({ length: 2500 }, (_, i) => [i, i])),
    };
    const result = (await parsePickle(write(value))) as typeof value;
    expect({ ...result }).toEqual(value);
    expect(Object.is(result.floats[1], -0)).toBe(true);
    expect(result.shared[0]).toBe(result.shared[1]);
    expect(result.ordered).toBeInstanceOf(OrderedDict);
    expect(result.tuples.every((tuple) => tuple instanceof PythonTuple)).toBe(true);
    expect(result.size).toBeInstanceOf(TorchSize);
    expect(Object.keys(result)).toEqual(Object.keys(value));
  });

  test("PythonFloat makes a float of an integral number", () => {
    expect(write(1)).toEqual(pickle("K", 1));
    expect(write(new PythonFloat(1))).toEqual(pickle("G", 0x3f, 0xf0, 0, 0, 0, 0, 0, 0));
    expect(new PythonFloat(2).valueOf() + 1).toBe(3);
  });

  test("a tuple is an array whose methods give arrays", () => {
    const betas = PythonTuple.fromArray([0.9, 0.999]);
    expect(betas[1]).toBe(0.999);
    expect(betas.map((beta) => beta)).not.toBeInstanceOf(PythonTuple);
  });

  test.each<[string, unknown, RegExp]>([
    ["undefined", { optimizer: { lr: undefined } }, /cannot write optimizer\/lr: it is undefined/],
    ["a function", { a: [() => 1] }, /cannot write a\/0: it is a function/],
    ["a typed array", { a: new Float32Array(1) }, /Float32Array.*torch\.tensor/],
    ["a Date", { a: new Date(0) }, /toISOString/],
    ["half a surrogate pair", { a: "\ud800" }, /surrogate/],
    ["a placeholder", { a: new PythonObject({} as never, []) }, /not understood/],
    ["an integer of 256 bytes", 2n ** 2040n, /integer of 256 bytes/],
    ["an object as a key", new Map([[{}, 1]]), /key/],
  ])("%s is refused with its path", (_, value, pattern) => {
    expect(() => write(value)).toThrow(pattern);
    expect(() => write(value)).toThrow(CheckpointError);
  });

  test("a value that holds itself is refused", () => {
    const value: unknown[] = [];
    value.push({ inner: value });
    expect(() => write({ value })).toThrow(/holds itself/);
    let deep: unknown[] = [];
    for (let i = 0; i < 300; i++) deep = [deep];
    expect(() => write(deep)).toThrow(/nested more than/);
  });
});
