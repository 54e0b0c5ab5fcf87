import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "@jest/globals";
import { freePort } from "../support/rankProcesses.js";

const run = promisify(execFile);
const library = new URL("../../lib/", import.meta.url).href;

test("two worker threads of one process are two ranks, and one that ends without closing takes nothing with it", async () => {
  const port = await freePort();
  // A program of its own, as threads and exits cannot be tried inside the test runner.
  const code = `
    import { Worker } from "node:worker_threads";
    const code = \`
      import { parentPort, workerData as rank } from "node:worker_threads";
      Promise.all([import("${library}distributed/index.js"), import("${library}torch/index.js")]).then(async ([{ ProcessGroup }, torch]) => {
        const group = await ProcessGroup.join({ rank, worldSize: 2, localRank: rank, localWorldSize: 2, nodeRank: 0, masterAddress: "127.0.0.1",
          masterPort: ${port}, backend: "gloo", externalStore: false, generation: "0" }, { timeoutMs: 20000 });
        const sum = group.allReduce_(torch.tensor([rank + 1])).item();
        group.barrier();
        parentPort.postMessage(sum);
      })\`;
    const threads = [0, 1].map((rank) => new Worker(code, { eval: true, workerData: rank }));
    const sums = await Promise.all(threads.map((thread) => new Promise((resolve, reject) => thread.once("message", resolve).once("error", reject))));
    await Promise.all(threads.map((thread) => thread.terminate()));
    console.log(JSON.stringify(sums));
  `;
  const { stdout } = await run(process.execPath, ["--input-type=module", "-e", code], { timeout: 50_000 });
  expect(JSON.parse(stdout)).toEqual([3, 3]);
});
