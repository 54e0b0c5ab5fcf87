/** Functions of one's own in several threads at once, each with passes in further threads, and ends in the middle of them. */
import { expect, test } from "@jest/globals";
import { library, program } from "./program.js";

const native = new URL("../../lib/native.js", import.meta.url).href;

/** Code of a worker: `rounds` passes through a function with a pass inside, whose own functions are called back from other threads. */
const worker = (rounds: string): string => `
  Promise.all([import("${library}"), import("${native}"), import("node:worker_threads")]).then(([torch, { native }, { parentPort }]) => {
    torch.setNumThreads(1);
    native.runBackwardElsewhere(true);
    const square = torch.customFunction({
      name: "square",
      forward(context, x) { context.saveForBackward(x); return x.mul(x); },
      backward(context, gradient) { return [gradient.mul(context.saved[0]).mul(2)]; },
    });
    const outer = torch.customFunction({
      name: "outer",
      forward(context, x) { context.saveForBackward(x); return x.mul(x); },
      backward(context, gradient) {
        const inner = context.saved[0].detach().requiresGrad_();
        return [torch.grad(torch.enableGrad(() => square(inner)), inner, { gradOutputs: [gradient] })[0]];
      },
    });
    const w = torch.full([8], 3, { dtype: "float32" }).requiresGrad_();
    let sum = 0;
    parentPort.postMessage("begun");
    for (let i = 0; i < ${rounds}; i++) torch.scope(() => { outer(square(w)).sum().backward(); sum += w.grad.sum().item(); w.grad = null; });
    parentPort.postMessage([sum, torch.memory().tensors]);
  })`;

const start = (rounds: string): string => `
  import { Worker } from "node:worker_threads";
  const answers = (thread, count) => new Promise((resolve, reject) => {
    const all = [];
    thread.on("message", (each) => { all.push(each); if (all.length === count) resolve(all.at(-1)); }).once("error", reject);
  });
  const begin = () => new Worker(${JSON.stringify(worker(rounds))}, { eval: true });
`;

test("each thread's passes call its own functions", async () => {
  const out = await program(`${start("100")}
    const threads = [begin(), begin(), begin()];
    const results = await Promise.all(threads.map((thread) => answers(thread, 2)));
    await Promise.all(threads.map((thread) => thread.terminate()));
    console.log(JSON.stringify(results));
  `);
  expect(JSON.parse(out)).toEqual(Array(3).fill([100 * 8 * 4 * 27, 1]));
}, 60_000);

test("a worker that is ended in the middle of a pass takes nothing with it", async () => {
  const out = await program(`${start("1e9")}
    const threads = [begin(), begin()];
    await Promise.all(threads.map((thread) => answers(thread, 1)));
    await new Promise((resolve) => setTimeout(resolve, 300));
    await Promise.all(threads.map((thread) => thread.terminate()));
    const x = torch.ones([3]).requiresGrad_();
    x.mul(2).sum().backward();
    console.log(x.grad.sum().item());
  `);
  expect(out).toBe("6");
}, 60_000);

test.each([["JavaScript's thread", false], ["another thread", true]])("the process can be ended inside a pass that runs in %s", async (_, elsewhere) => {
  const out = await program(`
    import { native } from "${native}";
    native.runBackwardElsewhere(${elsewhere});
    const leaving = torch.customFunction({
      name: "leaving", forward: (_, x) => x.mul(2), backward() { console.log("leaving"); process.exit(0); },
    });
    globalThis.y = leaving(torch.ones([3]).requiresGrad_());
    y.sum().backward();
    console.log("not reached");
  `);
  expect(out).toBe("leaving");
}, 30_000);
