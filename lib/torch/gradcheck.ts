import { grad } from "./autograd.js";
import { fromTypedArray } from "./creation.js";
import { scope } from "./scope.js";
import { zerosLike } from "./ops.generated.js";
import { Tensor } from "./tensor.js";

/** Gradients that are not those of the function: the message has the first place where they differ most, and both values. */
export class GradcheckError extends Error {
  override readonly name = "GradcheckError";
}

/** Step and tolerances; the defaults are PyTorch's. */
export interface GradcheckOptions {
  /** Step to both sides of a central difference. Default 1e-6. */
  eps?: number;
  /** What a gradient may differ by. Default 1e-5. */
  atol?: number;
  /** The same as a part of the numerical gradient. Default 1e-3. */
  rtol?: number;
}

/** A function whose gradients are to be checked: of tensors and others to one tensor or several. */
export type Checked<Inputs extends readonly unknown[]> = (...inputs: Inputs) => Tensor | readonly Tensor[];

/**
 * Compares the gradients that autograd has for `fn` with numerical ones, each element of each output by each element of each input that
 * requires a gradient, as `torch.autograd.gradcheck`. Also, that they are the same each time, and zero for a zero gradient.
 *
 * @param inputs those that require a gradient are float64, and few elements; they are not changed
 * @throws {GradcheckError} where they differ. TypeError for inputs that cannot be checked
 * @example torch.gradcheck((x) => x.sin(), [torch.randn([3], { dtype: "float64", requiresGrad: true })]);
 */
export function gradcheck<Inputs extends readonly unknown[]>(fn: Checked<Inputs>, inputs: Inputs, options: GradcheckOptions = {}): void {
  const { eps = 1e-6, atol = 1e-5, rtol = 1e-3 } = options;
  const places = differentiablePlaces(inputs);
  scope(() => {
    const analytical = analyticalJacobians(fn, inputs, places);
    const again = analyticalJacobians(fn, inputs, places);
    for (const [k, place] of places.entries()) {
      const numerical = numericalJacobian(fn, inputs, place, eps);
      for (const [o, rows] of analytical.entries()) {
        const where = `output ${o} by input ${place}`;
        const numbers = numerical[o]!;
        let worst: { excess: number; text: string } | null = null;
        for (const [i, row] of rows.jacobians[k]!.entries()) {
          for (const [j, value] of row.entries()) {
            const expected = numbers[j]![i]!;
            const second = again[o]!.jacobians[k]![i]![j];
            if (!Object.is(value, second)) {
              throw new GradcheckError(`gradcheck: the gradient of ${where} was ${value} and then ${second} at [${i}, ${j}]; backward must give the same each time`);
            }
            const excess = Math.abs(value - expected) - (atol + rtol * Math.abs(expected));
            if (!(excess <= 0) && !(worst !== null && worst.excess >= excess)) {
              worst = { excess: Number.isNaN(excess) ? Infinity : excess, text: `[${i}, ${j}]: ${value} in place of ${expected}` };
            }
          }
        }
        if (worst) throw new GradcheckError(`gradcheck: the gradient of ${where} is wrong, most at [element of output, element of input] ${worst.text}`);
        if (rows.ofZero[k]!.some((value) => value !== 0)) {
          throw new GradcheckError(`gradcheck: the gradient of ${where} is not zero where the output's is; multiply by the gradient that backward is given`);
        }
      }
    }
  });
}

/**
 * As {@link gradcheck} for the second derivatives: checks the gradients of the gradients, for random gradients of the outputs.
 *
 * @example torch.gradgradcheck((x) => x.sin(), [torch.randn([3], { dtype: "float64", requiresGrad: true })]);
 */
export function gradgradcheck<Inputs extends readonly unknown[]>(fn: Checked<Inputs>, inputs: Inputs, options: GradcheckOptions = {}): void {
  const places = differentiablePlaces(inputs);
  scope(() => {
    const gradients = outputsOf(fn, inputs).map((output) => output.detach().cos().requiresGrad_());
    gradcheck((...all: readonly unknown[]) => {
      const given = all.slice(0, inputs.length);
      const outputs = differentiable(outputsOf(fn, given as unknown as Inputs));
      const results = grad(outputs.map(([output]) => output), places.map((place) => given[place] as Tensor), {
        gradOutputs: outputs.map(([, o]) => all[inputs.length + o] as Tensor), createGraph: true, allowUnused: true,
      });
      return results.filter((result) => result !== null);
    }, [...inputs, ...gradients], options);
  });
}

function differentiablePlaces(inputs: readonly unknown[]): number[] {
  const places: number[] = [];
  for (const [i, input] of inputs.entries()) {
    if (!(input instanceof Tensor) || !input.requiresGrad) continue;
    if (input.dtype !== "float64") throw new TypeError(`gradcheck: input ${i} is ${input.dtype}, too coarse for differences; make it float64`);
    places.push(i);
  }
  if (places.length === 0) throw new TypeError("gradcheck: no input requires a gradient; make those that are to be checked with requiresGrad");
  return places;
}

function outputsOf<Inputs extends readonly unknown[]>(fn: Checked<Inputs>, inputs: Inputs): readonly Tensor[] {
  const output = fn(...inputs);
  return output instanceof Tensor ? [output] : output;
}

/** Outputs that have a gradient, each with its place. */
function differentiable(outputs: readonly Tensor[]): [output: Tensor, place: number][] {
  return outputs.map((output, i) => [output, i] as [Tensor, number]).filter(([output]) => output.requiresGrad);
}

function replacing<Inputs extends readonly unknown[]>(inputs: Inputs, place: number, tensor: Tensor): Inputs {
  return inputs.map((input, i) => (i === place ? tensor : input)) as unknown as Inputs;
}

interface Rows {
  /** For each input, for each element of the output, the gradient of that element. */
  readonly jacobians: readonly (readonly Float64Array[])[];
  /** For each input its gradient where the output's is zero. */
  readonly ofZero: readonly Float64Array[];
}

function analyticalJacobians<Inputs extends readonly unknown[]>(fn: Checked<Inputs>, inputs: Inputs, places: readonly number[]): Rows[] {
  return scope(() => {
    const leaves = places.map((place) => (inputs[place] as Tensor).detach().clone().requiresGrad_());
    const given = places.reduce((all, place, k) => replacing(all, place, leaves[k]!), inputs);
    return outputsOf(fn, given).map((output, o) => {
      if (!output.requiresGrad) return { jacobians: places.map(() => []), ofZero: places.map(() => new Float64Array()) };
      if (output.dtype !== "float64") throw new TypeError(`gradcheck: output ${o} is ${output.dtype}, too coarse for differences; compute it in float64`);
      const gradientsFor = (gradient: Tensor): Float64Array[] =>
        grad(output, leaves, { gradOutputs: [gradient], retainGraph: true, allowUnused: true })
          .map((result, k) => (result === null ? new Float64Array(leaves[k]!.numel()) : (result.data() as Float64Array)));
      const rows = Array.from({ length: output.numel() }, (_, i) => scope(() => {
        const unit = new Float64Array(output.numel());
        unit[i] = 1;
        return gradientsFor(fromTypedArray(unit, output.shape).to(output.device));
      }));
      return { jacobians: places.map((_, k) => rows.map((row) => row[k]!)), ofZero: scope(() => gradientsFor(zerosLike(output))) };
    });
  });
}

/** For each output, for each element of the input, the change of each element of the output. */
function numericalJacobian<Inputs extends readonly unknown[]>(fn: Checked<Inputs>, inputs: Inputs, place: number, eps: number): Float64Array[][] {
  const input = inputs[place] as Tensor;
  const values = input.data() as Float64Array;
  const columns = Array.from(values, (value, j) => {
    const outputsAt = (shifted: number): Float64Array[] => scope(() => {
      const moved = values.slice();
      moved[j] = shifted;
      const tensor = fromTypedArray(moved, input.shape).to({ device: input.device, copy: true }).requiresGrad_();
      return outputsOf(fn, replacing(inputs, place, tensor)).map((output) => output.detach().to("float64").data() as Float64Array);
    });
    const [above, below] = [outputsAt(value + eps), outputsAt(value - eps)];
    return above.map((output, o) => output.map((each, i) => (each - below[o]![i]!) / (2 * eps)));
  });
  const outputs = columns[0]?.length ?? 0;
  return Array.from({ length: outputs }, (_, o) => columns.map((column) => column[o]!));
}
