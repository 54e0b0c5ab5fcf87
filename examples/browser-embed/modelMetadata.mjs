/**
 * Reads what a model says about itself (`metadata_props`), which onnxruntime-web does not hand out. A model is a protocol buffer: fields,
 * each with a number, a kind and, for bytes, a length.
 *
 * @param {Uint8Array} model
 * @returns {Record<string, string>}
 */
export function readModelMetadata(model) {
  const METADATA = 14;
  const entries = [...fields(model)].filter(({ field }) => field === METADATA).map(({ bytes }) => {
    const parts = new Map([...fields(bytes)].map(({ field, bytes: text }) => [field, new TextDecoder().decode(text)]));
    return [parts.get(1), parts.get(2)];
  });
  return Object.fromEntries(entries);
}

/** The fields of one message; `bytes` is empty for numbers. */
function* fields(message) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = message[at++];
      if (byte === undefined) throw new Error("the file is no ONNX model, or was cut off");
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const tag = varint();
    const [field, kind] = [Math.floor(tag / 8), tag % 8];
    const length = kind === 2 ? varint() : kind === 1 ? 8 : kind === 5 ? 4 : 0;
    if (kind === 0) varint();
    else if (![1, 2, 5].includes(kind) || at + length > message.length) throw new Error("the file is no ONNX model, or was cut off");
    yield { field, bytes: kind === 2 ? message.subarray(at, at + length) : message.subarray(0, 0) };
    at += length;
  }
}
