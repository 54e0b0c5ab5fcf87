/** Recorded work gives what the same work gives launched kernel by kernel. */
import { expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { gpu, onGpu } from "./onGpu.js";

expectNoTensorsLeft();

onGpu("a CUDA graph", () => {
  test("each replay reads the inputs of its time", () => {
    torch.scope(() => {
      const [x, w] = [torch.randn([64, 32], { device: gpu }), torch.randn([32, 16], { device: gpu })];
      const work = (): torch.Tensor => x.matmul(w).relu();
      torch.withStream(torch.recordingStream(gpu), () => torch.scope(() => void work()));
      using graph = torch.recordGraph(gpu, () => [work()]);
      for (let round = 0; round < 3; round++) {
        torch.noGrad(() => x.copy_(torch.randn([64, 32], { device: gpu })));
        graph.replay();
        expect(torch.equal(graph.outputs[0]!, work())).toBe(true);
      }
    });
  });

  test("random kernels draw in each replay what they draw launched one by one", () => {
    torch.scope(() => {
      const [x, w] = [torch.randn([64, 32], { device: gpu }), torch.randn([32, 16], { device: gpu }).requiresGrad_()];
      // Two draws, and a backward pass that needs the first one's mask.
      const work = (): torch.Tensor[] => {
        const dropped = torch.dropout(x.matmul(w), 0.5, true);
        const [gradient] = torch.grad(dropped.square().sum(), [w]) as [torch.Tensor];
        return [dropped.detach(), gradient, torch.rand([100], { device: gpu })];
      };
      torch.withStream(torch.recordingStream(gpu), () => torch.scope(() => void work()));
      torch.manualSeed(5);
      const eager = Array.from({ length: 6 }, work);
      using graph = torch.recordGraph(gpu, work);
      torch.manualSeed(5);
      for (const [round, expected] of eager.entries()) {
        // Work that is not recorded goes on from where a replay has left off, and the other way round.
        if (round === 3) expect(work().map((each, i) => torch.equal(each, expected[i]!))).toEqual([true, true, true]);
        else {
          graph.replay();
          expect(graph.outputs.map((each, i) => torch.equal(each, expected[i]!))).toEqual([true, true, true]);
        }
      }
      expect(torch.equal(eager[0]![0]!, eager[1]![0]!)).toBe(false);
    });
  });

  test("work that waits for the device cannot be recorded, and says so", () => {
    torch.scope(() => {
      const x = torch.ones([3], { device: gpu });
      expect(() => torch.recordGraph(gpu, () => [x.mul(Number(x.sum().item()))])).toThrow();
      expect(x.add(1).toArray()).toEqual([2, 2, 2]); // the device goes on
    });
  });
});
