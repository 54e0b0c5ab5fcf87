import { spawn } from "node:child_process";
import { expect, test } from "@jest/globals";

const module = new URL("../../lib/train/runs/interrupt.js", import.meta.url).href;

/** A process that listens, tells what it hears, and never ends by itself; `act` is called with it once it listens. */
async function outcome(act: (send: (signal: NodeJS.Signals) => void, heard: () => Promise<void>) => Promise<void>) {
  const code = `
    const { listenForInterrupt } = await import(${JSON.stringify(module)});
    const interrupt = listenForInterrupt((signal) => console.log("heard " + signal));
    interrupt.signal.addEventListener("abort", () => console.log("reason " + interrupt.signal.reason));
    setInterval(() => {}, 1000);
    console.log("ready");
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code], { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  const waiting: (() => void)[] = [];
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
    waiting.splice(0).forEach((wake) => wake());
  });
  const heard = async (): Promise<void> => new Promise((resolve) => waiting.push(resolve));
  const ended = new Promise<NodeJS.Signals | null>((resolve) => child.on("close", (_, signal) => resolve(signal)));
  await heard();
  await act((signal) => void child.kill(signal), heard);
  child.kill("SIGKILL");
  return { signal: await ended, output };
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test("the first Ctrl-C asks, one a while later ends the process at once", async () => {
  const { signal, output } = await outcome(async (send, heard) => {
    send("SIGINT");
    await heard();
    await pause(50);
    send("SIGINT"); // what npm passes on after the terminal's own
    await pause(1500);
    send("SIGINT");
    await pause(500);
  });
  expect(signal).toBe("SIGINT");
  expect(output).toBe("ready\nreason SIGINT\nheard SIGINT\n");
});

test("SIGTERM asks once, and Ctrl-C after it ends the process", async () => {
  const { signal, output } = await outcome(async (send, heard) => {
    send("SIGTERM");
    await heard();
    await pause(1500);
    send("SIGTERM");
    await pause(200);
    send("SIGINT");
    await pause(500);
  });
  expect(signal).toBe("SIGINT");
  expect(output).toBe("ready\nreason SIGTERM\nheard SIGTERM\n");
});
