/** Runs ONNX models for `onnxRuntime.ts`, in a process of its own. */
import * as ort from "onnxruntime-node";
import type { OnnxAnswer, OnnxRequest } from "./onnxRuntime.js";

let loaded: { path: string; session: ort.InferenceSession } | null = null;

async function answer({ path, name, type, data, dims }: OnnxRequest): Promise<OnnxAnswer> {
  if (loaded?.path !== path) {
    await loaded?.session.release();
    loaded = { path, session: await ort.InferenceSession.create(path, { intraOpNumThreads: 1, logSeverityLevel: 3 }) };
  }
  const outputs = await loaded.session.run({ [name]: new ort.Tensor(type, data as Float32Array, dims) });
  return Object.fromEntries(Object.entries(outputs).map(([key, { data: values, dims: shape }]) => [key, { data: values as Float32Array, dims: shape }]));
}

process.on("message", (request: OnnxRequest) => {
  answer(request).then(
    (outputs) => process.send!({ outputs }),
    (error: Error) => process.send!({ error: error.message }),
  );
});
