/** A process group of one over NCCL: what several GPUs do, as far as one can show it. */
import { expect, test } from "@jest/globals";
import { GradientAverager, ProcessGroup, synchronizeBatchNorm } from "../../lib/distributed/index.js";
import { BatchNorm1d } from "../../lib/nn/index.js";
import * as torch from "../../lib/torch/index.js";
import { freePort, loopback } from "../support/rankProcesses.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { gpu, onGpu } from "./onGpu.js";

expectNoTensorsLeft();

const joinAlone = async (): Promise<ProcessGroup> => ProcessGroup.join(loopback(0, 1, await freePort(), { backend: "nccl" }));

onGpu("NCCL with one process", () => {
  test("its collectives leave what they are given", async () => {
    const group = await joinAlone();
    torch.scope(() => {
      const values = torch.arange(0, 6, { dtype: "float32", device: gpu }).reshape([2, 3]);
      for (const op of ["sum", "mean", "max", "min"] as const) {
        expect(group.allReduce_(values.clone(), op).toArray()).toEqual([[0, 1, 2], [3, 4, 5]]);
      }
      expect(group.allGather(values).toArray()).toEqual([[0, 1, 2], [3, 4, 5]]);
      group.broadcast_([values]);
      expect(values.toArray()).toEqual([[0, 1, 2], [3, 4, 5]]);
    });
    expect(group.exchange({ rank: 0 })).toEqual([{ rank: 0 }]);
    group.close();
  });

  test("synchronised batch normalisation and averaged gradients are those of one process", async () => {
    const group = await joinAlone();
    torch.manualSeed(4);
    const [plain, synchronised] = [new BatchNorm1d(8).to(gpu).train(), new BatchNorm1d(8).to(gpu).train()];
    synchronizeBatchNorm(synchronised, group);
    const averager = new GradientAverager(synchronised.parameters(), group);
    torch.scope(() => {
      const [x, weights] = [torch.randn([16, 8], { device: gpu }), torch.randn([16, 8], { device: gpu })];
      const [expected, found] = [plain, synchronised].map((norm) => {
        if (norm === synchronised) averager.prepare();
        const output = norm.forward(x);
        output.mul(weights).sum().backward();
        return [output.detach(), ...norm.parameters().map(({ grad }) => grad!.clone()), norm.runningMean.clone(), norm.runningVar.clone()];
      });
      expected!.forEach((value, i) => expect(torch.allclose(found![i]!, value, 1e-5, 1e-6)).toBe(true));
    });
    averager.dispose();
    plain.dispose();
    synchronised.dispose();
    group.close();
  });
});
