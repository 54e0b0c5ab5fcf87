import * as ort from "./onnxruntime/ort.wasm.min.mjs";
import { readModelMetadata } from "./modelMetadata.mjs";
import { normalise } from "./pictures.mjs";

ort.env.wasm.wasmPaths = new URL("./onnxruntime/", import.meta.url).href;

/** An encoder that `moco convert CHECKPOINT encoder.onnx` made, in this browser. */
export class Encoder {
  constructor(session, metadata, bytes) {
    this.session = session;
    this.metadata = metadata;
    this.bytes = bytes;
  }

  /** @param {(done: number) => void} onProgress a share from 0 to 1 of the download */
  static async load(url, onProgress = () => {}) {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`the model cannot be fetched: ${response.status} ${response.statusText}`);
    const total = Number(response.headers.get("Content-Length"));
    const model = new Uint8Array(total);
    let done = 0;
    for (const reader = response.body.getReader(); ;) {
      const part = await reader.read();
      if (part.done) break;
      model.set(part.value, done);
      done += part.value.length;
      onProgress(done / total);
    }
    const metadata = readModelMetadata(model);
    if (!metadata.image_size) throw new Error("the model does not say what images it takes; make it with moco convert");
    return new Encoder(await ort.InferenceSession.create(model), metadata, total);
  }

  /** Features of pictures that {@link prepare} made: Float32Array(D). */
  async embed({ data, width, height }) {
    if (this.metadata.normalization === "in the model") return this.run(new ort.Tensor("uint8", data, [1, height, width, 3]));
    return this.run(new ort.Tensor("float32", normalise({ data, width, height }, this.metadata), [1, 3, height, width]));
  }

  /** Features of a batch of the model's input. */
  async run(tensor) {
    const { features } = await this.session.run({ [this.session.inputNames[0]]: tensor });
    return features.data;
  }
}

/** Cosine of the angle between two feature vectors: 1 for the same direction. */
export function cosine(a, b) {
  let [product, ofA, ofB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    product += a[i] * b[i];
    ofA += a[i] * a[i];
    ofB += b[i] * b[i];
  }
  return product / Math.sqrt(ofA * ofB || 1);
}
