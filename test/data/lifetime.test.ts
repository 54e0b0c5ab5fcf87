import { spawnSync } from "node:child_process";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "@jest/globals";

const data = new URL("../../lib/data/index.js", import.meta.url).href;
const torch = new URL("../../lib/torch/index.js", import.meta.url).href;

/** Starts far more work than can be done in the time left. */
const busy = `
  const { ImagePool } = await import(${JSON.stringify(data)});
  const torch = await import(${JSON.stringify(torch)});
  const pool = new ImagePool(2);
  const image = { data: new Uint8Array(3 * 64 * 64), width: 64, height: 64 };
  const crop = { top: 0, left: 0, height: 64, width: 64 };
  const out = torch.empty([2000, 3, 96, 96], { dtype: "uint8" });
  const work = pool.render(Array.from({ length: 2000 }, (_, row) => ({ image, renderings: [{ output: 0, row, crop, blurSigma: 2 }] })), [out]);
`;

function node(code: string): { status: number | null; signal: string | null; output: string } {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", code], { encoding: "utf8" });
  return { status, signal, output: stdout + stderr };
}

describe("the process ends cleanly", () => {
  test("with work under way", () => {
    expect(node(`${busy} work.catch(() => {}); process.exit(7);`)).toEqual({ status: 7, signal: null, output: "" });
  });

  test("after an exception with work under way", () => {
    const { status, signal, output } = node(`${busy} throw new Error("on purpose");`);
    expect([status, signal]).toEqual([1, null]);
    expect(output).toMatch(/on purpose/);
  });

  test("by itself, once the work is done, with the pool never closed", () => {
    expect(node(`${busy} work.then(() => console.log("done"));`)).toEqual({ status: 0, signal: null, output: "done\n" });
  });

  test("with a loader abandoned in the middle", () => {
    const code = `
      const { TwoViewLoader } = await import(${JSON.stringify(data)});
      const source = { length: 64,
        image: async () => ({ data: new Uint8Array(3 * 400), width: 20, height: 20 }) };
      const loader = new TwoViewLoader(source, { batchSize: 8, imageSize: 16, seed: 0 });
      const { value } = await loader.epoch(0).next();
      console.log(value.views[0].shape.join());
    `;
    expect(node(code)).toEqual({ status: 0, signal: null, output: "8,3,16,16\n" });
  });
});

describe("worker threads", () => {
  test("have pools of their own, and may be stopped with work under way", async () => {
    const start = (code: string): Worker => new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`));
    const report = `const { parentPort } = await import("node:worker_threads");`;
    const finished = await Promise.all(
      [1, 2].map(
        () =>
          new Promise((resolve, reject) => {
            const worker = start(`${busy} ${report} await work; parentPort.postMessage("done");`);
            worker.on("message", resolve);
            worker.on("error", reject);
          }),
      ),
    );
    expect(finished).toEqual(["done", "done"]);
    const stopped = start(`${busy} ${report} parentPort.postMessage("begun"); await work;`);
    await new Promise((resolve) => stopped.on("message", resolve));
    expect(await stopped.terminate()).toBe(1);
  });
});
