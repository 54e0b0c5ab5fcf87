/** Which form of a computation is taken, and its gradient, with kernels that are pretended by operators; real ones run in test/gpu. */
import { describe, expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import type { CompileKernel, FunctionContext, Kernel, KernelArgument, KernelExtent, Tensor } from "../../lib/torch/index.js";
import { compileForArchitecture, findKernelCompiler } from "../../lib/torch/kernelCompiler.js";
import { temporaryFolder } from "../support/temporaryFolder.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { cubeSource, makeCube } from "./cubeKernels.js";

expectNoTensorsLeft();

/** GELU by two kernels. The tensors are on the CPU, and said to be on a GPU. */
function makeGelu({ compile, device = "cuda:0", withBackward = true, warnings = [] }: {
  compile: CompileKernel; device?: string; withBackward?: boolean; warnings?: string[];
}) {
  return torch.customKernel({
    name: "gelu", source: "both functions", options: ["-DA"], entries: ["gelu", "geluBackward"],
    takes: (x: Tensor) => x.dtype === "float64", device: () => device,
    fused(context: FunctionContext<[x: Tensor]>, kernels, x: Tensor) {
      context.saveForBackward(x);
      const y = torch.emptyLike(x);
      kernels.gelu.launch({ grid: 1, block: 32 }, x, y);
      return y;
    },
    ...(withBackward && {
      backward(context: FunctionContext<[x: Tensor]>, kernels: torch.Kernels<"gelu" | "geluBackward">, gradient: Tensor): [Tensor] {
        const [x] = context.saved;
        const ofX = torch.emptyLike(x);
        kernels.geluBackward.launch({ grid: 1, block: 32 }, x, gradient.contiguous(), ofX);
        return [ofX];
      },
    }),
    fallback(x: Tensor) {
      fallbacks++;
      return torch.gelu(x);
    },
    onWarning: (message) => warnings.push(message),
  }, compile);
}
let fallbacks = 0;

/** What a kernel would write into its last argument, in memory that autograd does not watch. */
const work: Record<string, (...args: Tensor[]) => Tensor> = {
  gelu: (x) => torch.gelu(x),
  geluBackward: (x, gradient) => torch.op("gelu_backward")(gradient, x) as Tensor,
};

function pretended(compiled: string[], launches: string[]): CompileKernel {
  return ({ entry, device, source, options }) => {
    compiled.push(`${entry} of ${source} ${options?.join(" ")} on ${device}`);
    const launch = (_: KernelExtent, ...args: readonly KernelArgument[]): void => {
      launches.push(entry);
      const tensors = args.map((each) => (each as Tensor).detach());
      torch.noGrad(() => torch.scope(() => tensors.at(-1)!.copy_(work[entry]!(...tensors.slice(0, -1)))));
      for (const tensor of tensors) tensor.dispose();
    };
    return { name: entry, device, launch, dispose: () => launches.push(`${entry} disposed`) } as unknown as Kernel;
  };
}

const leaf = (...values: number[]): Tensor => torch.tensor(values, undefined, { dtype: "float64", requiresGrad: true });

describe("a computation with kernels of its own", () => {
  test("takes them on a GPU in both directions, compiled once, and equals its fallback", () => {
    torch.scope(() => {
      const [compiled, launches]: string[][] = [[], []];
      const gelu = makeGelu({ compile: pretended(compiled!, launches!) });
      const x = leaf(-1, 0.5, 2);
      fallbacks = 0;
      const y = gelu(x);
      expect(y.gradFn).toBe("geluBackward");
      const weight = torch.tensor([1, 2, 3], undefined, { dtype: "float64" });
      const [ours] = torch.grad(y, x, { gradOutputs: [weight] });
      expect([compiled, launches, fallbacks]).toEqual([
        ["gelu of both functions -DA on cuda:0", "geluBackward of both functions -DA on cuda:0"], ["gelu", "geluBackward"], 0,
      ]);
      const expected = torch.gelu(x);
      const [theirs] = torch.grad(expected, x, { gradOutputs: [weight] });
      expect([y.toArray(), ours!.toArray()]).toEqual([expected.toArray(), theirs!.toArray()]);
      torch.gradcheck(gelu, [leaf(-1, 0.5, 2)]);
      expect(compiled!.length).toBe(2);
      expect(fallbacks).toBe(0);
    });
  });

  test("takes its fallback, with the operators' autograd, for other inputs, on the CPU and where no kernel can be had", () => {
    torch.scope(() => {
      const warnings: string[] = [];
      const launches: string[] = [];
      const works = pretended([], launches);
      const failing: CompileKernel = (source) => {
        if (source.entry === "geluBackward") throw new torch.KernelError("no compiler");
        return works(source);
      };
      const onCpu = makeGelu({ compile: works, device: "cpu" });
      const without = makeGelu({ compile: failing, warnings });
      const other = (x: Tensor): Tensor => makeGelu({ compile: works })(x.to("float32")).to("float64");
      fallbacks = 0;
      const x = leaf(-1, 0.5);
      const expected = torch.grad(torch.gelu(x).sum(), x)[0]!;
      for (const [i, gelu] of [onCpu, without, without, other].entries()) {
        const y = gelu(x);
        expect(y.gradFn).not.toBe("geluBackward");
        const [gradient] = torch.grad(y.sum(), x);
        expect(torch.scope(() => gradient!.sub(expected).abs().max().item())).toBeLessThan(1e-6);
        expect(fallbacks).toBe(i + 1);
      }
      expect(launches).toEqual(["gelu disposed"]);
      expect(warnings).toEqual(["kernel gelu is left out, and libtorch's operators do its work: no compiler"]);
    });
  });

  test("without a backward takes its kernel only where no gradient is asked for", () => {
    torch.scope(() => {
      const launches: string[] = [];
      const gelu = makeGelu({ compile: pretended([], launches), withBackward: false });
      const x = leaf(1);
      gelu(x).backward();
      expect([launches, x.grad !== null]).toEqual([[], true]);
      torch.noGrad(() => gelu(x));
      gelu(x.detach());
      expect(launches).toEqual(["gelu", "gelu"]);
    });
  });

  test("refuses a second derivative, which would be zero", () => {
    torch.scope(() => {
      const gelu = makeGelu({ compile: pretended([], []) });
      const x = leaf(1);
      expect(() => torch.grad(gelu(x), x, { createGraph: true })).toThrow(/^gelu: its backward cannot be differentiated again/);
    });
  });

  test("is compiled for each GPU", () => {
    torch.scope(() => {
      const compiled: string[] = [];
      let device = "cuda:0";
      const twice = torch.customKernel({
        name: "twice", source: "", entries: ["twice"], takes: (x: Tensor) => x.ndim > 0, device: () => device,
        fused: (_, { twice: kernel }, x: Tensor) => x.mul(kernel.device === device ? 2 : NaN),
        fallback: (x) => x.mul(2),
      }, pretended(compiled, []));
      for (device of ["cuda:0", "cuda:1", "cuda:0"]) expect(twice(torch.ones([1])).item()).toBe(2);
      expect(compiled).toEqual(["twice of  undefined on cuda:0", "twice of  undefined on cuda:1"]);
    });
  });
});

describe("the kernels of test/gpu", () => {
  const compiler = findKernelCompiler();
  const cache = temporaryFolder("cube");
  (compiler === null ? test.skip : test)("compile, both in one source", () => {
    const { image } = compileForArchitecture(cubeSource, 90, compiler!, cache);
    const code = Buffer.from(image).toString("latin1");
    for (const entry of ["cube", "cubeBackward"]) expect(code).toContain(`.text.${entry}\0`);
  });

  test("have a fallback on the CPU", () => {
    torch.scope(() => {
      const counts = { fallbacks: 0 };
      torch.gradcheck(makeCube(counts), [leaf(1, -2)]);
      expect(counts.fallbacks).toBeGreaterThan(0);
    });
  });
});
