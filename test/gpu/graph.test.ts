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

  test("random numbers go on from replay to replay", () => {
    torch.scope(() => {
      torch.manualSeed(3);
      using graph = torch.recordGraph(gpu, () => [torch.rand([100], { device: gpu })]);
      graph.replay();
      const first = graph.outputs[0]!.clone();
      graph.replay();
      expect(torch.equal(first, graph.outputs[0]!)).toBe(false);
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
