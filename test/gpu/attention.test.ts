/** The kernels that attention may take give the same numbers, at the head widths of ViT-S and ViT-B. */
import { afterAll, expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import type { BackendFlags, Tensor } from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { gpu, onGpu } from "./onGpu.js";

expectNoTensorsLeft();

const none = { flashAttention: false, memoryEfficientAttention: false, cudnnAttention: false } satisfies BackendFlags;
const all = { flashAttention: true, memoryEfficientAttention: true, cudnnAttention: true } satisfies BackendFlags;

onGpu("attention over 197 tokens", () => {
  afterAll(() => torch.setBackendFlags(all));

  const hasAll = torch.cudaDeviceCount() > 0 && torch.deviceProperties(gpu).capability >= 9;
  // Older GPUs lack some of the kernels, and libtorch then says that there is none.
  (hasAll ? test.each : test.skip.each)([
    ["flashAttention", 32], ["flashAttention", 64], ["memoryEfficientAttention", 32], ["memoryEfficientAttention", 64], ["cudnnAttention", 32],
    ["cudnnAttention", 64],
  ] as const)("%s with heads of %i values: forward and backward", (kernel, width) => {
    torch.scope(() => {
      torch.manualSeed(4);
      const inputs = [0, 1, 2].map(() => torch.randn([8, 6, 197, width], { device: gpu }));
      const attend = (type: "float32" | "bfloat16", flags: BackendFlags): Tensor[] => {
        torch.setBackendFlags(flags);
        const [q, k, v] = inputs.map((each) => each.to(type).detach().requiresGrad_()) as [Tensor, Tensor, Tensor];
        const out = torch.scaledDotProductAttention(q, k, v);
        return [out, ...torch.grad(out.to("float32").pow(2).sum(), [q, k, v])] as Tensor[];
      };
      const exact = attend("float32", none); // as operators
      const found = attend("bfloat16", { ...none, [kernel]: true });
      found.forEach((each, i) => {
        const scale = exact[i]!.abs().max().item() as number;
        expect(each.to("float32").sub(exact[i]!).abs().max().item()).toBeLessThan(0.02 * scale);
      });
    });
  });
});
