/** Linear layers of the CPU by oneDNN, against libtorch's own in float64. Where libtorch has no oneDNN, its own are compared with themselves. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { oneDnnLinearDefault } from "../../lib/torch/backend.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { library, program } from "./program.js";

expectNoTensorsLeft();

beforeAll(() => torch.setBackendFlags({ oneDnnLinear: true }));
afterAll(() => torch.setBackendFlags({ oneDnnLinear: oneDnnLinearDefault }));

const hasOneDnn = torch.version().config.includes("USE_MKLDNN=ON");
const IN = 160;
const OUT = 224;

/** The largest difference of two tensors, over the second's largest value. */
function difference(found: Tensor, expected: Tensor): number {
  return torch.scope(() => found.detach().to("float64").sub(expected.detach()).abs().max().div(expected.detach().abs().max()).item() as number);
}

interface Inputs {
  x: Tensor;
  weight: Tensor;
  bias: Tensor | null;
}

/** Numbers of float32 in float64. */
function exact({ x, weight, bias }: Inputs): Inputs {
  const to64 = (tensor: Tensor): Tensor => tensor.detach().to("float64").requiresGrad_(tensor.requiresGrad);
  return { x: to64(x), weight: to64(weight), bias: bias && to64(bias) };
}

function expectAsExact(inputs: Inputs, shape: number[]): void {
  const reference = exact(inputs);
  const found = torch.linear(inputs.x, inputs.weight, inputs.bias);
  const expected = torch.linear(reference.x, reference.weight, reference.bias);
  expect(found.shape).toEqual(shape);
  expect(difference(found, expected)).toBeLessThan(2e-6);
  const gradient = torch.randn(shape);
  found.backward(gradient);
  expected.backward(gradient.to("float64"));
  for (const name of ["x", "weight", "bias"] as const) {
    const [ours, theirs] = [inputs[name]?.grad ?? null, reference[name]?.grad ?? null];
    expect([name, ours === null]).toEqual([name, theirs === null]);
    if (ours && theirs) expect([name, difference(ours, theirs) < 4e-6]).toEqual([name, true]);
  }
}

const learned = (...shape: number[]): Tensor => torch.randn(shape).requiresGrad_(true);

describe("linear by oneDNN", () => {
  test.each([
    ["tokens", [4, 50, IN], IN, OUT],
    ["rows, to fewer", [300, OUT], OUT, IN],
    ["rows, to many more", [600, 64], 64, 512], // here the weight's gradient comes out turned
    ["few rows", [16, 512], 512, 256],
  ] as const)("%s: result and gradients", (_name, shape, inputs, outputs) => {
    torch.manualSeed(1);
    torch.scope(() => {
      const made = { x: learned(...shape), weight: learned(outputs, inputs), bias: learned(outputs) };
      expectAsExact(made, [...shape.slice(0, -1), outputs]);
    });
  });

  (hasOneDnn ? test : test.skip)("it is what multiplies", () => {
    torch.scope(() => {
      const y = torch.linear(learned(300, IN), learned(OUT, IN), learned(OUT));
      const small = torch.linear(learned(3, IN), learned(OUT, IN), learned(OUT));
      expect(y.gradFn).toMatch(/Linear/);
      const few = torch.linear(learned(16, 1024), learned(1024, 1024), learned(1024));
      expect(few.gradFn).toMatch(/Addmm/); // waits for memory
      expect(small.gradFn).toMatch(/Addmm/); // too little work to set up oneDNN's product
    });
  });

  test("without bias, of frozen weights and of inputs that need no gradient", () => {
    torch.manualSeed(2);
    torch.scope(() => {
      expectAsExact({ x: learned(300, IN), weight: learned(OUT, IN), bias: null }, [300, OUT]);
      expectAsExact({ x: torch.randn([300, IN]), weight: learned(OUT, IN), bias: learned(OUT) }, [300, OUT]);
      expectAsExact({ x: learned(300, IN), weight: torch.randn([OUT, IN]), bias: torch.randn([OUT]) }, [300, OUT]);
      expectAsExact({ x: learned(300, IN), weight: torch.randn([OUT, IN]), bias: learned(OUT) }, [300, OUT]);
    });
  });

  test("of tensors whose rows do not lie side by side", () => {
    torch.manualSeed(3);
    torch.scope(() => {
      const tokens = learned(300, 3, IN); // the class token of each
      const weight = learned(3 * OUT, IN);
      const x = tokens.narrow(1, 0, 1);
      const reference = exact({ x: tokens, weight, bias: null });
      const found = torch.linear(x, weight.narrow(0, OUT, OUT));
      const expected = torch.linear(reference.x.narrow(1, 0, 1), reference.weight.narrow(0, OUT, OUT));
      const gradient = torch.randn([OUT, 1, 300]).permute([2, 1, 0]);
      found.backward(gradient);
      expected.backward(gradient.to("float64"));
      expect(difference(found, expected)).toBeLessThan(2e-6);
      expect(difference(tokens.grad as Tensor, reference.x.grad as Tensor)).toBeLessThan(4e-6);
      expect(difference(weight.grad as Tensor, reference.weight.grad as Tensor)).toBeLessThan(4e-6);
    });
  });

  test("of weights whose rows overlap, or are one row", () => {
    torch.manualSeed(7);
    torch.scope(() => {
      for (const strides of [[1, 1], [0, 1], [1, 0]]) {
        const made = { x: learned(300, IN), weight: learned(OUT + IN), bias: null };
        const reference = exact(made);
        const found = torch.linear(made.x, torch.asStrided(made.weight, [OUT, IN], strides));
        const expected = torch.linear(reference.x, torch.asStrided(reference.weight, [OUT, IN], strides));
        const gradient = torch.randn([300, OUT]);
        found.backward(gradient);
        expected.backward(gradient.to("float64"));
        expect(difference(found, expected)).toBeLessThan(2e-6);
        expect(difference(made.x.grad as Tensor, reference.x.grad as Tensor)).toBeLessThan(4e-6);
        expect(difference(made.weight.grad as Tensor, reference.weight.grad as Tensor)).toBeLessThan(4e-6);
      }
    });
  });

  test("of a sparse gradient", () => {
    torch.manualSeed(8);
    torch.scope(() => {
      const gradients = [true, false].map((sparse) => {
        torch.manualSeed(9);
        const [x, weight, bias, gradient] = [learned(300, IN), learned(OUT, IN), learned(OUT), torch.randn([300, OUT])];
        torch.linear(x, weight, bias).backward(sparse ? (torch.op("to_sparse")(gradient) as Tensor) : gradient);
        return [x.grad, weight.grad, bias.grad] as Tensor[];
      }) as [Tensor[], Tensor[]];
      gradients[0].forEach((gradient, i) => expect(torch.equal(gradient, gradients[1][i] as Tensor)).toBe(true));
    });
  });

  test.each(["x", "weight"] as const)("%s that changed since is refused by backward", (name) => {
    torch.scope(() => {
      const made = { x: learned(300, IN), weight: learned(OUT, IN) };
      const y = torch.linear(made.x, made.weight);
      torch.noGrad(() => made[name].add_(1));
      expect(() => y.sum().backward()).toThrow(/modified by an inplace operation/);
    });
  });

  test("gradients of gradients", () => {
    torch.manualSeed(4);
    torch.scope(() => {
      const made = { x: learned(300, IN), weight: learned(OUT, IN), bias: learned(OUT) };
      const [found, expected] = [made, exact(made)].map(({ x, weight, bias }) => {
        const loss = torch.linear(x, weight, bias).pow(3).sum();
        const [dx] = torch.grad([loss], [x], { createGraph: true }) as [Tensor];
        dx.square().sum().backward();
        return weight.grad as Tensor;
      }) as [Tensor, Tensor];
      expect(difference(found, expected)).toBeLessThan(1e-5);
    });
  });

  test("the same bits each time", () => {
    torch.manualSeed(5);
    torch.scope(() => {
      const [x, weight, gradient] = [learned(600, IN), learned(OUT, IN), torch.randn([600, OUT])];
      const runs = [0, 1].map(() => {
        x.grad = weight.grad = null;
        const y = torch.linear(x, weight);
        y.backward(gradient);
        return [y, x.grad as unknown as Tensor, weight.grad as unknown as Tensor].map((tensor) => tensor.detach().clone());
      }) as [Tensor[], Tensor[]];
      runs[0].forEach((tensor, i) => expect(torch.equal(tensor, runs[1][i] as Tensor)).toBe(true));
    });
  });

  test("other types, and autocast, go libtorch's own way", () => {
    torch.scope(() => {
      const [x, weight] = [torch.randn([300, IN]), torch.randn([OUT, IN])];
      expect(torch.linear(x.to("float64"), weight.to("float64")).dtype).toBe("float64");
      expect(torch.autocast({ device: "cpu", dtype: "bfloat16" }, () => torch.linear(x, weight)).dtype).toBe("bfloat16");
      expect(torch.autocast({ device: "cpu", dtype: "bfloat16" }, () => torch.noGrad(() => torch.linearGelu(x, weight))).dtype).toBe("bfloat16");
      expect(() => torch.linear(x, torch.randn([OUT, IN + 1]))).toThrow(/mat1 and mat2 shapes cannot be multiplied/);
      expect(torch.inferenceMode(() => torch.linear(x, weight)).shape).toEqual([300, OUT]);
    });
  });
});

test.each([true, false])("a thread that loads the library later leaves the choice alone (oneDNN: %s)", async (oneDnnLinear) => {
  const out = await program(`
    import { Worker } from "node:worker_threads";
    torch.setBackendFlags({ oneDnnLinear: ${oneDnnLinear} });
    const worker = new Worker('import("${library}")', { eval: true });
    await new Promise((resolve, reject) => worker.once("exit", resolve).once("error", reject));
    console.log(torch.linear(torch.ones([300, ${IN}]), torch.ones([${OUT}, ${IN}]).requiresGrad_()).gradFn);
  `);
  expect(/^Addmm|^Mm/.test(out)).toBe(!(oneDnnLinear && hasOneDnn));
}, 60_000);

describe("linearGelu", () => {
  test.each([true, false])("is GELU of the linear layer, with and without gradient (oneDNN: %s)", (oneDnnLinear) => {
    torch.setBackendFlags({ oneDnnLinear });
    try {
      torch.manualSeed(6);
      torch.scope(() => {
        const made = { x: learned(4, 75, IN), weight: learned(OUT, IN), bias: learned(OUT) };
        const { x, weight, bias } = exact(made);
        const expected = torch.gelu(torch.linear(x, weight, bias));
        const withGradient = torch.linearGelu(made.x, made.weight, made.bias);
        const without = torch.noGrad(() => torch.linearGelu(made.x, made.weight, made.bias));
        expect([withGradient.requiresGrad, without.requiresGrad]).toEqual([true, false]);
        expect(difference(withGradient, expected)).toBeLessThan(2e-6);
        expect(difference(without, expected)).toBeLessThan(2e-6);
        expect(difference(torch.noGrad(() => torch.linearGelu(made.x, made.weight)), torch.gelu(torch.linear(x, weight)))).toBeLessThan(2e-6);
      });
    } finally {
      torch.setBackendFlags({ oneDnnLinear: true });
    }
  });

  test("is seen by an observer, and refuses a tensor that is gone", () => {
    torch.scope(() => {
      const [x, weight] = [torch.randn([300, IN]), torch.randn([OUT, IN])];
      const seen: string[] = [];
      torch.noGrad(() => torch.observeOperators((name) => seen.push(name), () => torch.linearGelu(x, weight)));
      expect(seen).toEqual(["linear_gelu"]);
      x.dispose();
      expect(() => torch.linearGelu(x, weight)).toThrow(/linear/);
      expect(() => torch.noGrad(() => torch.linearGelu(x, weight))).toThrow(/linearGelu/);
    });
  });
});
