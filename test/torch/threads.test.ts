import { expect, test } from "@jest/globals";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";

const run = promisify(execFile);
const library = new URL("../../lib/torch/index.js", import.meta.url).href;
const cwd = fileURLToPath(new URL("../../..", import.meta.url));

/** Runs a program of its own, as exits and threads cannot be tried inside the test runner. */
async function program(code: string): Promise<string> {
  const { stdout } = await run(process.execPath, ["--input-type=module", "-e", `import * as torch from "${library}";\n${code}`], { cwd });
  return stdout.trim();
}

const worker = `
  import { Worker } from "node:worker_threads";
  const code = \`
    Promise.all([import("${library}"), import("node:worker_threads")]).then(([torch, { parentPort }]) => {
      torch.setNumThreads(1);
      const w = torch.ones([8, 8]).requiresGrad_();
      for (let i = 0; i < 200; i++) torch.scope(() => { torch.mm(w, w).sum().backward(); w.grad = null; });
      parentPort.postMessage(torch.memory().tensors);
    })\`;
  const answer = (thread) => new Promise((resolve, reject) => thread.once("message", resolve).once("error", reject));
`;

test("several worker threads at once, each with its own tensors", async () => {
  const out = await program(`${worker}
    const mine = torch.ones([4]);
    const threads = Array.from({ length: 3 }, () => new Worker(code, { eval: true }));
    const counts = await Promise.all(threads.map(answer));
    await Promise.all(threads.map((thread) => thread.terminate()));
    console.log(JSON.stringify([counts, mine.sum().item(), torch.memory().tensors]));
  `);
  expect(JSON.parse(out)).toEqual([[1, 1, 1], 4, 2]);
}, 60_000);

test("workers alone, one after the other, where the main thread has loaded nothing", async () => {
  const { stdout } = await run(process.execPath, ["--input-type=module", "-e", `${worker}
    for (let i = 0; i < 2; i++) {
      const thread = new Worker(code, { eval: true });
      console.log(await answer(thread));
      await thread.terminate();
    }
  `], { cwd });
  expect(stdout.trim()).toBe("1\n1");
}, 60_000);

test("a worker that is ended in the middle of its work takes nothing with it", async () => {
  const out = await program(`${worker}
    const thread = new Worker(code.replace("200", "1e9"), { eval: true });
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await thread.terminate();
    console.log(torch.ones([3]).sum().item());
  `);
  expect(out).toBe("3");
}, 60_000);

test.each([
  ["with live tensors", "torch.ones([100]);"],
  ["with a live graph", "globalThis.y = torch.ones([3]).requiresGrad_().mul(2).sum();"],
  ["with shared memory", "globalThis.bytes = torch.ones([3]).sharedBytes(); globalThis.s = torch.fromTypedArray(new Float32Array(9));"],
  ["by process.exit", "torch.ones([100]); process.exit(0);"],
  ["inside inference mode", "torch.inferenceMode(() => process.exit(0));"],
])("the process ends cleanly %s", async (_, code) => {
  await expect(program(code)).resolves.toBe("");
}, 30_000);

test("setNumThreads takes whole numbers from 1", async () => {
  const out = await program(`
    torch.setNumThreads(2);
    try { torch.setNumThreads(0); } catch (error) { console.log(torch.getNumThreads(), error.name, error.message); }
  `);
  expect(out).toBe("2 RangeError setNumThreads: expected a whole number from 1, got 0");
});
