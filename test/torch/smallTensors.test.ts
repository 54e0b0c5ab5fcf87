import { expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import type { Tensor } from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";

// Memory of small tensors is kept for the next ones of their size (native/smallBlocks.cc).
expectNoTensorsLeft();

test("no two live tensors share memory, whatever was freed before and in which order", () => {
  const random = (() => {
    let state = 1;
    return (below: number): number => (state = (state * 48271) % 2147483647) % below;
  })();
  const live: { tensor: Tensor; value: number; size: number }[] = [];
  const check = ({ tensor, value, size }: (typeof live)[number]): void => {
    const values = tensor.data() as Float32Array;
    expect(values.length).toBe(size);
    expect(values.every((each) => each === value)).toBe(true);
  };
  for (let i = 0; i < 5_000; i++) {
    if (live.length > 0 && random(100) < 48) {
      const [gone] = live.splice(random(live.length), 1) as [(typeof live)[number]];
      check(gone);
      gone.tensor.dispose();
    } else {
      const size = random(300); // to 1,196 bytes: some above what is kept
      live.push({ tensor: torch.full([size], i, { dtype: "float32" }), value: i, size });
    }
  }
  live.forEach(check);
  live.forEach(({ tensor }) => tensor.dispose());
});

test("memory that a small tensor gives back may be of one that grew, or was borrowed", () => {
  torch.scope(() => {
    const grown = torch.ones([10]);
    torch.resize_(grown, [250]);
    expect([...(grown.data() as Float32Array).slice(0, 10)]).toEqual(Array(10).fill(1));
    torch.resize_(grown, [5_000]);
    expect(grown.narrow(0, 0, 10).sum().item()).toBe(10);
    const array = new Float32Array(20).fill(3);
    const borrowed = torch.fromTypedArray(array);
    borrowed.mul_(2);
    borrowed.dispose();
    torch.zeros([20]);
    expect(array[0]).toBe(6);
  });
});

test("what oneDNN takes and frees by address is right too", () => {
  torch.scope(() => {
    for (const width of [1, 3, 8, 16, 40]) {
      const x = torch.linspace(-2, 2, width * width).view([width, width]);
      const expected = x.mul(torch.erf(x.mul(Math.SQRT1_2)).add(1)).mul(0.5);
      for (let i = 0; i < 50; i++) expect(torch.allclose(torch.gelu(x), expected, 1e-5, 1e-6)).toBe(true);
    }
  });
});
