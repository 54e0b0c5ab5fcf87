import { describe, expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

expectNoTensorsLeft();

describe("on the CPU, which finishes every operator before it returns", () => {
  test("there is one stream, always done", () => {
    const stream = torch.newStream("cpu", { highPriority: true });
    expect(stream.device).toBe("cpu");
    expect(stream.equals(torch.currentStream("cpu"))).toBe(true);
    expect(stream.query()).toBe(true);
    stream.synchronize();
    stream.waitFor(torch.currentStream("cpu"));
  });

  test("operators give the same on a stream as off it", () => {
    const stream = torch.newStream("cpu");
    using a = torch.tensor([1, 2, 3]);
    using b = torch.withStream(stream, () => a.mul(2).recordStream(stream));
    expect(b.toArray()).toEqual([2, 4, 6]);
    using copy = a.to({ device: "cpu", copy: true, nonBlocking: true });
    expect(copy.toArray()).toEqual([1, 2, 3]);
  });

  test("events have always come", () => {
    const stream = torch.newStream("cpu");
    using event = stream.record();
    expect(event.query()).toBe(true);
    event.synchronize();
    stream.waitFor(event);
    event.record(stream);
  });
});

test("an event that was disposed of says so", () => {
  const event = new torch.StreamEvent("cpu");
  event.dispose();
  event.dispose();
  const stream = torch.newStream("cpu");
  expect(() => event.query()).toThrow(/query: the event was disposed of/);
  expect(() => event.synchronize()).toThrow(/disposed/);
  expect(() => event.record(stream)).toThrow(/disposed/);
  expect(() => stream.waitFor(event)).toThrow(/waitFor: the event was disposed of; record another/);
});

test("events and streams of different types of device do not go together", () => {
  using event = new torch.StreamEvent("meta");
  const stream = torch.newStream("cpu");
  expect(() => event.record(stream)).toThrow(/record: the event is of meta, the stream of cpu/);
  expect(() => stream.waitFor(event)).toThrow(TypeError);
});

test("a tensor that is gone has no stream to be recorded on", () => {
  const a = torch.tensor([1]);
  a.dispose();
  expect(() => a.recordStream(torch.newStream("cpu"))).toThrow(torch.DisposedTensorError);
});

test("withStream refuses a promise and hands on errors", () => {
  const stream = torch.newStream("cpu");
  expect(() => torch.withStream(stream, () => Promise.resolve(1))).toThrow(/withStream: the function returned a Promise/);
  expect(() => torch.withStream(stream, () => { throw new RangeError("mine"); })).toThrow(new RangeError("mine"));
});

describe("devices that are not there", () => {
  test("a name that is no device's", () => {
    for (const make of [torch.newStream, torch.currentStream, (name: string) => new torch.StreamEvent(name)]) {
      expect(() => make("gpu")).toThrow(/unknown device "gpu"; expected cpu, cuda/);
    }
  });

  test("a device that libtorch does not have", () => {
    const beyond = `cuda:${torch.cudaDeviceCount()}`;
    for (const make of [torch.newStream, torch.currentStream, (name: string) => new torch.StreamEvent(name)]) {
      expect(() => make(beyond)).toThrow(torch.DeviceUnavailableError);
      expect(() => make(beyond)).toThrow(/cuda:\d+: libtorch finds .* moco doctor/);
    }
  });

  (torch.cudaDeviceCount() > 0 ? test.skip : test)("pinned memory needs one that copies from it", () => {
    expect(() => torch.empty([2], { pinMemory: true })).toThrow(torch.TorchError);
    expect(() => torch.empty([2], { pinMemory: true })).toThrow(/requires a CUDA or other accelerator/);
    using plain = torch.empty([2]);
    expect(torch.isPinned(plain)).toBe(false);
  });
});
