import { isGradEnabled } from "./autograd.js";
import { customFunction, type FunctionContext, type InputGradients, type OutputGradients, type SavedTensors } from "./customFunction.js";
import { compileKernel, type Kernel } from "./kernel.js";
import type { KernelSource } from "./kernelCompiler.js";
import { Tensor } from "./tensor.js";

/** The kernels of a computation, by the names of their functions. */
export type Kernels<Entry extends string> = { readonly [Name in Entry]: Kernel };

/** A computation that has kernels of its own, and operators that do the same. */
export interface CustomKernel<
  Inputs extends readonly unknown[], Output extends Tensor | readonly Tensor[], Saved extends SavedTensors, State extends object, Entry extends string,
> extends KernelSource {
  /** The functions of `source` that are launched. */
  entries: readonly Entry[];
  /** Whether the kernels are made for such inputs. */
  takes(...inputs: Inputs): boolean;
  /** Where the inputs are: kernels are compiled for each GPU. */
  device(...inputs: Inputs): string;
  /** The output by kernels; saves for `backward` as a {@link CustomFunction}'s forward does. */
  fused(context: FunctionContext<Saved, State>, kernels: Kernels<Entry>, ...inputs: Inputs): Output;
  /**
   * The gradients of the inputs by kernels. Without it the kernels are used only where no gradient is asked for, and {@link fallback}
   * elsewhere. A gradient that it is given need not be contiguous. It has no second derivative: `createGraph` is refused.
   */
  backward?(
    context: FunctionContext<Saved, State>, kernels: Kernels<Entry>, ...gradients: OutputGradients<Output, Tensor> & readonly Tensor[]
  ): InputGradients<Inputs>;
  /** With libtorch's operators, and their autograd: on the CPU, for other inputs, and where the kernels cannot be compiled. */
  fallback(...inputs: Inputs): Output;
  /** Hears once why there is no kernel where there should be one. Default: a warning of the process. */
  onWarning?(message: string): void;
}

/** What stands for {@link compileKernel} in tests. */
export type CompileKernel = (source: KernelSource & { entry: string; device: string }) => Kernel;

/**
 * Makes a function that takes its kernels where they run, and operators elsewhere; differentiable either way.
 *
 * @param compile for tests
 * @throws {CustomFunctionError} as {@link customFunction}
 * @example
 * const twice = torch.customKernel({
 *   name: "twice", entries: ["twice"], takes: (x: torch.Tensor) => x.dtype === "float32" && x.isContiguous(), device: (x) => x.device,
 *   source: `extern "C" __global__ void twice(const float* x, float* y, int n) { int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) y[i] = 2 * x[i]; }`,
 *   fused(context, { twice }, x: torch.Tensor) {
 *     const y = torch.emptyLike(x);
 *     twice.launch({ grid: Math.ceil(x.numel() / 256), block: 256 }, x, y, { int32: x.numel() });
 *     return y;
 *   },
 *   backward: (context, kernels, gradient) => [gradient.mul(2)],
 *   fallback: (x) => x.mul(2),
 * });
 */
export function customKernel<
  Inputs extends readonly unknown[], Output extends Tensor | readonly Tensor[] | readonly [Tensor, Tensor], const Entry extends string,
  Saved extends SavedTensors = readonly Tensor[], State extends object = Record<string, unknown>,
>(definition: CustomKernel<Inputs, Output, Saved, State, Entry>, compile: CompileKernel = compileKernel): (...inputs: Inputs) => Output {
  const { name, source, options, entries, onWarning = (message) => process.emitWarning(message) } = definition;
  const functions = new Map<string, ((...inputs: Inputs) => Output) | null>(); // by GPU; null where it cannot be had
  return (...inputs) => {
    const device = definition.device(...inputs);
    if (!device.startsWith("cuda") || !definition.takes(...inputs)) return definition.fallback(...inputs);
    if (definition.backward === undefined && isGradEnabled() && inputs.some((input) => input instanceof Tensor && input.requiresGrad)) {
      return definition.fallback(...inputs);
    }
    let fused = functions.get(device);
    if (fused === undefined) {
      const kernels: Record<string, Kernel> = {};
      try {
        for (const entry of entries) kernels[entry] = compile({ name, source, options, entry, device });
        fused = withKernels(definition, kernels as Kernels<Entry>);
      } catch (error) {
        for (const kernel of Object.values(kernels)) kernel.dispose();
        fused = null;
        onWarning(`kernel ${name} is left out, and libtorch's operators do its work: ${(error as Error).message}`);
      }
      functions.set(device, fused);
    }
    return fused === null ? definition.fallback(...inputs) : fused(...inputs);
  };
}

function withKernels<
  Inputs extends readonly unknown[], Output extends Tensor | readonly Tensor[], Saved extends SavedTensors, State extends object, Entry extends string,
>(definition: CustomKernel<Inputs, Output, Saved, State, Entry>, kernels: Kernels<Entry>): (...inputs: Inputs) => Output {
  return customFunction<Inputs, Output, Saved, State>({
    name: definition.name,
    onceDifferentiable: true, // autograd does not see what kernels do
    forward: (context, ...inputs) => definition.fused(context, kernels, ...inputs),
    // `never`, as TypeScript cannot see that both sides have the same type.
    backward: (context, ...gradients) => definition.backward!(context, kernels, ...(gradients as never)),
  });
}
