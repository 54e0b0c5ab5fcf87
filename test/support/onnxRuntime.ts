/**
 * onnxruntime-node for tests: in a process of its own, since it takes no typed arrays of the contexts that Jest runs tests in.
 */
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll } from "@jest/globals";

export interface OnnxRequest {
  path: string;
  /** Of the input. */
  name: string;
  type: "float32" | "uint8";
  data: Float32Array | Uint8Array;
  dims: number[];
}

/** The outputs by their names. */
export type OnnxAnswer = Record<string, { data: Float32Array; dims: readonly number[] }>;

/** Starts onnxruntime for the tests of a file; the returned function runs a model on one input. Requests go one after the other. */
export function startOnnxRuntime(): (request: OnnxRequest) => Promise<OnnxAnswer> {
  let child: ChildProcess | null = null;
  afterAll(async () => {
    if (child === null || child.exitCode !== null) return;
    const ended = once(child, "exit");
    child.kill();
    await ended;
  });
  return async (request) => {
    const runtime = (child ??= fork(fileURLToPath(new URL("./onnxRuntimeProcess.js", import.meta.url)), { serialization: "advanced" }));
    return new Promise((resolve, reject) => {
      const ended = (code: number | null): void => reject(new Error(`onnxruntime's process ended with ${code}`));
      runtime.once("exit", ended);
      runtime.once("message", (message: { outputs?: OnnxAnswer; error?: string }) => {
        runtime.off("exit", ended);
        if (message.outputs !== undefined) resolve(message.outputs);
        else reject(new Error(message.error));
      });
      runtime.send(request);
    });
  };
}
