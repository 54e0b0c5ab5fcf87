/** A GPU's memory: what is held, peaks, what goes back, and copies from pinned memory beside other work. */
import { expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { gpu, onGpu } from "./onGpu.js";

expectNoTensorsLeft();

const MEGABYTE = 2 ** 20;

onGpu("a GPU's memory", () => {
  test("what tensors hold, the most they held, and what is kept for the next ones", () => {
    torch.releaseDeviceMemory(gpu);
    torch.resetPeakDeviceMemory(gpu);
    const before = torch.deviceMemory(gpu);
    const block = torch.zeros([64 * MEGABYTE], { dtype: "uint8", device: gpu });
    const during = torch.deviceMemory(gpu);
    expect(during.allocated - before.allocated).toBe(64 * MEGABYTE);
    expect(during.reserved).toBeGreaterThanOrEqual(during.allocated);
    block.dispose();
    const after = torch.deviceMemory(gpu);
    expect(after.allocated).toBe(before.allocated);
    expect(after.peakAllocated).toBe(during.allocated);
    expect(after.reserved).toBe(during.reserved);
    torch.releaseDeviceMemory(gpu);
    expect(torch.deviceMemory(gpu).reserved).toBeLessThan(during.reserved);
    torch.resetPeakDeviceMemory(gpu);
    expect(torch.deviceMemory(gpu).peakAllocated).toBe(before.allocated);
  });

  test("more than there is: an error that says so, and the device goes on", () => {
    const { memoryBytes } = torch.deviceProperties(gpu);
    expect(() => torch.zeros([2 * memoryBytes], { dtype: "uint8", device: gpu })).toThrow(/out of memory/i);
    using one = torch.ones([], { device: gpu });
    expect(one.item()).toBe(1);
  });

  test("copies from pinned memory in a stream of their own, and back, arrive when their events come", () => {
    torch.scope(() => {
      const pinned = torch.empty([4 * MEGABYTE], { dtype: "float32", pinMemory: true }).fill_(3);
      expect(torch.isPinned(pinned)).toBe(true);
      const [copies, main] = [torch.newStream(gpu), torch.currentStream(gpu)];
      const moved = torch.withStream(copies, () => pinned.to({ device: gpu, nonBlocking: true }));
      using copied = copies.record();
      main.waitFor(copied);
      const back = torch.empty([4 * MEGABYTE], { dtype: "float32", pinMemory: true }).copy_(moved.recordStream(main).mul(2), true);
      using arrived = main.record();
      arrived.synchronize();
      expect(arrived.query()).toBe(true);
      expect([back.min().item(), back.max().item()]).toEqual([6, 6]);
    });
  });
});
