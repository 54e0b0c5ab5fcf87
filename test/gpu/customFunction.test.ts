/**
 * Functions of one's own on a GPU, where the engine calls backward from a thread of the GPU and JavaScript's thread serves it: streams,
 * recorded graphs, kernels, errors, passes inside passes. No test may hang: a wait for each other would.
 */
import { describe, expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import type { FunctionContext, Tensor } from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { makeCube } from "../torch/cubeKernels.js";
import { fusedReferences } from "../torch/fusedReferences.js";
import { square, squareThatLooks } from "../torch/ownFunctions.js";
import { gpu, onGpu } from "./onGpu.js";

expectNoTensorsLeft();

const leaf = (shape: number[]): Tensor => torch.randn(shape, { device: gpu }).requiresGrad_();
const difference = (a: Tensor, b: Tensor): number => torch.scope(() => a.sub(b).abs().max().item());

onGpu("a function of one's own on a GPU", () => {
  test("has the gradient that it was given, again and again", () => {
    torch.scope(() => {
      const x = leaf([1000]);
      for (let round = 0; round < 200; round++) {
        torch.scope(() => square(square(x)).sum().backward());
        expect(difference(x.grad!, x.detach().pow(3).mul(4))).toBeLessThan(1e-3);
        x.grad = null;
      }
    });
  });

  test("gradcheck, first and second derivatives", () => {
    torch.scope(() => {
      const x = torch.tensor([0.5, -1, 2], undefined, { dtype: "float64" }).to({ device: gpu, copy: true }).requiresGrad_();
      torch.gradcheck(square, [x]);
      torch.gradgradcheck(square, [x]);
    });
  });

  test("backward runs in the forward's stream, also where the pass is begun in another", () => {
    torch.scope(() => {
      const side = torch.newStream(gpu);
      let seen: torch.Stream | undefined;
      const own = squareThatLooks(() => {
        seen = torch.currentStream(gpu);
      });
      const x = leaf([1 << 20]);
      side.waitFor(torch.currentStream(gpu));
      const y = torch.withStream(side, () => own(x).sum());
      torch.currentStream(gpu).waitFor(side);
      y.backward();
      expect(seen!.equals(side)).toBe(true);
      expect(torch.currentStream(gpu).equals(side)).toBe(false);
      expect(difference(x.grad!, x.detach().mul(2))).toBe(0);
      side.synchronize();
    });
  });

  test("what it throws in backward comes out as the same object, and the GPU goes on", () => {
    torch.scope(() => {
      const mine = new RangeError("mine");
      let throws = true;
      const own = squareThatLooks(() => {
        if (throws) throw mine;
      });
      const x = leaf([8]);
      for (let round = 0; round < 20; round++) {
        let caught: unknown;
        try {
          torch.scope(() => own(x.mul(1)).sum().backward());
        } catch (error) {
          caught = error;
        }
        expect(caught).toBe(mine);
      }
      throws = false;
      own(x).sum().backward();
      expect(difference(x.grad!, x.detach().mul(2))).toBe(0);
    });
  });

  test("a pass inside its backward needs the thread that waits, and gets it", () => {
    torch.scope(() => {
      const outer = torch.customFunction({
        name: "outer",
        forward(context: FunctionContext<[x: Tensor]>, x: Tensor) {
          context.saveForBackward(x);
          return x.mul(x);
        },
        backward(context, gradient) {
          const x = context.saved[0].detach().requiresGrad_();
          return [torch.grad(torch.enableGrad(() => square(x.mul(1))), x, { gradOutputs: [gradient] })[0]!];
        },
      });
      const x = leaf([100]);
      outer(outer(x)).sum().backward();
      expect(difference(x.grad!, x.detach().pow(3).mul(4))).toBeLessThan(1e-4);
    });
  });

  test("parts of a graph on the CPU and on the GPU", () => {
    torch.scope(() => {
      const x = torch.randn([10]).requiresGrad_();
      square(square(square(x).to(gpu)).to("cpu")).sum().backward();
      expect(difference(x.grad!, x.detach().pow(7).mul(8))).toBeLessThan(1e-2);
    });
  });

  test("in a recorded graph forward and backward are launched as one, equal to the last bit", () => {
    torch.scope(() => {
      const [x, w] = [torch.randn([64, 32], { device: gpu }), leaf([32, 16])];
      const work = (): Tensor[] => [torch.grad(square(x.matmul(w)).relu().sum(), w)[0]!];
      torch.withStream(torch.recordingStream(gpu), () => torch.scope(() => void work()));
      using graph = torch.recordGraph(gpu, work);
      for (let round = 0; round < 3; round++) {
        torch.noGrad(() => x.copy_(torch.randn([64, 32], { device: gpu })));
        graph.replay();
        expect(torch.equal(graph.outputs[0]!, work()[0]!)).toBe(true);
      }
    });
  });

  test("an error in backward ends a recording, and the next one works", () => {
    torch.scope(() => {
      const mine = new RangeError("mine");
      let throws = true;
      const own = squareThatLooks(() => {
        if (throws) throw mine;
      });
      const x = leaf([16]);
      const work = (): Tensor[] => [torch.grad(own(x).sum(), x)[0]!];
      torch.withStream(torch.recordingStream(gpu), () => {
        throws = false;
        torch.scope(() => void work());
        throws = true;
      });
      expect(() => torch.recordGraph(gpu, work)).toThrow(mine);
      throws = false;
      using graph = torch.recordGraph(gpu, work);
      graph.replay();
      expect(difference(graph.outputs[0]!, x.detach().mul(2))).toBe(0);
    });
  });

  describe("by kernels, forward and backward", () => {
    test("equals operators", () => {
      torch.scope(() => {
        const counts = { fallbacks: 0 };
        const cube = makeCube(counts);
        const x = leaf([1000]);
        const y = cube(x);
        expect(y.gradFn).toBe("cubeBackward");
        y.mul(x.detach()).sum().backward();
        expect(difference(y, x.detach().pow(3))).toBeLessThan(1e-4);
        expect(difference(x.grad!, x.detach().pow(3).mul(3))).toBeLessThan(1e-4);
        expect(counts.fallbacks).toBe(0);
        cube(x.t()).sum().backward(); // contiguous still
        cube(leaf([4, 4]).t());
        cube(torch.ones([2], { device: gpu, dtype: "float64" }));
        expect(counts.fallbacks).toBe(2);
      });
    });

    test("in a recorded graph", () => {
      torch.scope(() => {
        const cube = makeCube({ fallbacks: 0 });
        const x = leaf([1000]);
        const work = (): Tensor[] => [torch.grad(cube(x).sum(), x)[0]!];
        torch.withStream(torch.recordingStream(gpu), () => torch.scope(() => void work()));
        using graph = torch.recordGraph(gpu, work);
        torch.noGrad(() => x.fill_(2));
        graph.replay();
        expect([graph.outputs[0]!.min().item(), graph.outputs[0]!.max().item()]).toEqual([12, 12]);
      });
    });
  });

  test.each(fusedReferences.map((each) => [each.name, each] as const))("the reference of %s agrees with the operators that it replaces", (_, { reference, operators, inputs }) => {
    torch.scope(() => {
      const run = (fn: typeof reference): Tensor[] => {
        torch.manualSeed(6);
        const given = inputs({ dtype: "float64", device: gpu });
        const output = (fn as (...all: readonly unknown[]) => Tensor | readonly Tensor[])(...given);
        const outputs = (output instanceof torch.Tensor ? [output] : output) as readonly Tensor[];
        const loss = outputs.map((each) => each.sin().sum()).reduce((a, b) => a.add(b));
        const leaves = given.filter((each) => each instanceof torch.Tensor).filter((each) => each.requiresGrad);
        return [...outputs, ...(torch.grad(loss, leaves) as Tensor[])];
      };
      const [ours, theirs] = [run(reference), run(operators)];
      for (const [i, tensor] of ours.entries()) expect(difference(tensor, theirs[i]!)).toBeLessThan(1e-10);
    });
  });
});
