import { expect, test } from "@jest/globals";
import * as torch from "../../lib/torch/index.js";
import { expectNoTensorsLeft } from "../support/tensorsLeft.js";
import { onGpu } from "./onGpu.js";

expectNoTensorsLeft();

onGpu("streams of a GPU", () => {
  test("run beside each other and wait for each other's events", () => {
    const stream = torch.newStream("cuda", { highPriority: true });
    const main = torch.currentStream("cuda:0");
    expect(stream.device).toBe("cuda:0");
    expect(stream.equals(main)).toBe(false);
    using a = torch.ones([2048, 2048], { device: "cuda" });
    stream.waitFor(main);
    const product = torch.withStream(stream, () => {
      expect(torch.currentStream("cuda").equals(stream)).toBe(true);
      return torch.scope(() => Array.from({ length: 20 }, () => 0).reduce((x) => x.matmul(a).mul(1 / 2048), a));
    });
    expect(torch.currentStream("cuda").equals(main)).toBe(true);
    using event = stream.record();
    main.waitFor(event);
    using sum = product.recordStream(main).sum();
    product.dispose();
    expect(sum.item()).toBe(2048 * 2048);
    event.synchronize();
    expect(event.query()).toBe(true);
    stream.synchronize();
    expect(stream.query()).toBe(true);
  });
});
